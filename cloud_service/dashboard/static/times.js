// Writes a still page's times in the viewer's zone.
import { localise, zone } from "./live.js";

localise(document);
document.getElementById("zone").textContent = zone;
