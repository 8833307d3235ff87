// The page of risks: turns each list of certified steps into a slider, shows what the choice gives, and keeps the rest live.

import { follow, localise, show, zone } from "./live.js";

const REGIONS = ["risk_notices", "risk_empty", "risk_chart", "risk_rings", "risk_progress", "risk_alarms", "risk_audits"];

// The list stays what the form sends; the slider only moves along it.
function makeSlider(box) {
  const select = box.querySelector("select");
  const choices = JSON.parse(box.dataset.choices);
  const label = box.querySelector("label");
  const range = document.createElement("input");
  Object.assign(range, { type: "range", min: 0, max: choices.length - 1, step: 1, value: select.selectedIndex });
  range.id = `range-${box.dataset.slider}`;
  const output = document.createElement("output");
  output.htmlFor = range.id;
  label.htmlFor = range.id;
  label.append(output);
  const ends = document.createElement("div");
  ends.className = "ends";
  ends.innerHTML = "<span>stricter</span><span>looser</span>";
  select.hidden = true;
  select.after(range, ends);
  range.disabled = choices.length < 2;

  function tell() {
    const choice = choices[Number(range.value)];
    select.value = choice.alpha;
    output.textContent = choice.words;
    range.setAttribute("aria-valuetext", `at most ${choice.words}, ${choice.figures.offload} offload`);
  }
  range.addEventListener("input", () => {
    tell();
    tellFigures();
    remember();
  });
  tell();
  return { name: select.name, chosen: () => choices[Number(range.value)] };
}

const sliders = [...document.querySelectorAll(".slider")].map(makeSlider);

// The strictest of the thresholds holds, and its figures.
function tellFigures() {
  if (!sliders.length) return;
  const chosen = sliders.map((each) => each.chosen()).reduce((a, b) => (b.threshold > a.threshold ? b : a));
  for (const [name, words] of Object.entries(chosen.figures)) {
    const place = document.querySelector(`[data-figure="chosen_${name}"]`);
    const now = document.querySelector(`[data-figure="now_${name}"]`);
    place.textContent = words;
    place.classList.toggle("changed", words !== now.textContent);
  }
  const line = document.getElementById("chosen-line");
  line.setAttribute("x1", `${chosen.left}%`);
  line.setAttribute("x2", `${chosen.left}%`);
}

// The address names the choice, so that it can be sent to a colleague.
function remember() {
  const address = new URL(location.href);
  for (const slider of sliders) address.searchParams.set(slider.name, slider.chosen().alpha);
  history.replaceState(null, "", address);
}

document.getElementById("zone").textContent = zone;
localise(document);
tellFigures();
follow(document.body.dataset.stream, (regions) => {
  const isFirstGate = !document.getElementById("risk_chart") && regions.risk_chart?.trim();
  if (isFirstGate) location.reload();
  else show(regions, REGIONS);
});
