// Keeps the overview live, and its charts readable by pointer and keyboard.

import { readOutCharts, watchCharts } from "./charts.js";
import { follow, localise, show, zone } from "./live.js";

const REGIONS = ["status", "notices", "headline", "risk_now", "charts", "devices", "details"];

document.getElementById("zone").textContent = zone;
localise(document);
readOutCharts();
watchCharts(document.getElementById("charts"));
follow(`/events?range=${encodeURIComponent(document.body.dataset.range)}`, (regions) => {
  show(regions, REGIONS);
  readOutCharts();
});
