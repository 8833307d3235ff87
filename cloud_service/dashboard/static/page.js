// Keeps the page live: takes new HTML for its regions from /events and changes only what differs, so that focus,
// selection, open details and scroll positions stay. Times are written in the viewer's zone.

const LOST_AFTER_MS = 2500;
const RETRY_MS = 2000;
const SILENT_AFTER_MS = 12000;
const REGIONS = ["status", "notices", "headline", "charts", "devices", "details"];

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
const seconds = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const minutes = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });

function writtenTime(unixS, style) {
  const then = new Date(unixS * 1000);
  if (style === "minutes") return minutes.format(then);
  const today = day.format(then) === day.format(new Date());
  return (today ? "" : day.format(then) + ", ") + seconds.format(then);
}

function localise(root) {
  for (const each of root.querySelectorAll("[data-unix]")) {
    each.textContent = writtenTime(Number(each.dataset.unix), each.dataset.style);
  }
}

function sameKind(old, fresh) {
  return old.nodeType === fresh.nodeType && old.nodeName === fresh.nodeName && (old.dataset?.key ?? "") === (fresh.dataset?.key ?? "");
}

// Makes `old` equal to `fresh`, keeping every node that can stay. What carries data-client belongs to this script.
function morph(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  if (old.dataset.client !== undefined) return;
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  morphChildren(old, fresh);
}

function morphChildren(old, fresh) {
  let place = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    let found = place;
    while (found && !sameKind(found, wanted)) found = wanted.dataset?.key ? found.nextSibling : null;
    if (!found) {
      old.insertBefore(wanted, place);
      continue;
    }
    if (found !== place) old.insertBefore(found, place);
    else place = place.nextSibling;
    morph(found, wanted);
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

function show(regions) {
  for (const [id, html] of Object.entries(regions)) {
    const fresh = document.createElement("div");
    fresh.innerHTML = html;
    localise(fresh);
    if (REGIONS.includes(id)) morphChildren(document.getElementById(id), fresh);
  }
  document.querySelectorAll(".chart").forEach(readOut);
}

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

function watchCharts(charts) {
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

// The stream. A hidden page keeps none, so that many open tabs cost nothing; the browser's own retry is not enough,
// it gives up when the server answers with an error.
let source = null;
let lostTimer = null;
let silentTimer = null;

function connect() {
  if (source || document.hidden) return;
  source = new EventSource(`/events?range=${encodeURIComponent(document.body.dataset.range)}`);
  source.addEventListener("regions", (event) => {
    heard();
    show(JSON.parse(event.data));
  });
  source.addEventListener("still", heard);
  source.addEventListener("error", lose);
  silentTimer = setTimeout(lose, SILENT_AFTER_MS);
}

function lose() {
  disconnect();
  lostTimer ??= setTimeout(() => (document.getElementById("lost").hidden = false), LOST_AFTER_MS);
  setTimeout(connect, RETRY_MS);
}

function heard() {
  clearTimeout(lostTimer);
  clearTimeout(silentTimer);
  lostTimer = null;
  silentTimer = setTimeout(lose, SILENT_AFTER_MS);
  document.getElementById("lost").hidden = true;
}

function disconnect() {
  clearTimeout(silentTimer);
  source?.close();
  source = null;
}

document.getElementById("zone").textContent = zone;
localise(document);
document.querySelectorAll(".chart").forEach(readOut);
watchCharts(document.getElementById("charts"));
document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
window.addEventListener("pagehide", disconnect);
connect();
