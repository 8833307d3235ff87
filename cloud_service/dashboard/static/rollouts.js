// Keeps the pages of updates live.

import { follow, localise, show, zone } from "./live.js";

document.getElementById("zone").textContent = zone;
localise(document);
follow(document.body.dataset.stream, (regions) => show(regions, Object.keys(regions)));
