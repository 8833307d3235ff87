// Writes times in the viewer's zone, and lets the charts be read.

import { readOutCharts, watchCharts } from "./charts.js";
import { localise, zone } from "./live.js";

localise(document);
document.getElementById("zone").textContent = zone;
const charts = document.getElementById("charts");
if (charts) {
  readOutCharts();
  watchCharts(charts);
}
