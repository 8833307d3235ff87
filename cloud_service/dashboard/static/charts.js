// Charts that are read by pointer and keyboard.

import { writtenTime } from "./live.js";

// A chart's readout: the bucket that is pointed at, or chosen with the arrow keys, or else the newest.
const chosen = new Map();

function readOut(chart) {
  const points = JSON.parse(chart.dataset.points);
  const index = chosen.get(chart.dataset.key) ?? points.length - 1;
  const [beginsS, endsS, text] = points[Math.min(index, points.length - 1)];
  const cursor = chart.querySelector(".cursor");
  const at = `${(100 * (index + 0.5)) / points.length}%`;
  cursor.setAttribute("x1", at);
  cursor.setAttribute("x2", at);
  cursor.setAttribute("visibility", chosen.has(chart.dataset.key) ? "visible" : "hidden");
  chart.querySelector(".readout").textContent = `${writtenTime(beginsS, "seconds")}–${writtenTime(endsS, "seconds")}: ${text}`;
}

function choose(chart, index) {
  const last = JSON.parse(chart.dataset.points).length - 1;
  if (index === null) chosen.delete(chart.dataset.key);
  else chosen.set(chart.dataset.key, Math.max(0, Math.min(last, index)));
  readOut(chart);
}

function pointedIndex(chart, event) {
  const box = chart.querySelector(".plot").getBoundingClientRect();
  return Math.floor(((event.clientX - box.left) / box.width) * JSON.parse(chart.dataset.points).length);
}

export function watchCharts(charts) {
  const chartOf = (event) => event.target.closest?.(".plot")?.closest(".chart");
  charts.addEventListener("pointermove", (event) => {
    const chart = chartOf(event);
    if (chart) choose(chart, pointedIndex(chart, event));
  });
  charts.addEventListener("pointerout", (event) => {
    const chart = chartOf(event);
    if (chart && !chart.querySelector(".plot").contains(event.relatedTarget)) choose(chart, null);
  });
  charts.addEventListener("keydown", (event) => {
    const chart = chartOf(event);
    if (!chart || !["ArrowLeft", "ArrowRight", "Escape"].includes(event.key)) return;
    event.preventDefault();
    const now = chosen.get(chart.dataset.key) ?? JSON.parse(chart.dataset.points).length - 1;
    choose(chart, event.key === "Escape" ? null : now + (event.key === "ArrowRight" ? 1 : -1));
  });
  charts.addEventListener("focusout", (event) => {
    const chart = chartOf(event);
    if (chart) choose(chart, null);
  });
}

export function readOutCharts() {
  document.querySelectorAll(".chart").forEach(readOut);
}
