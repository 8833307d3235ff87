// What every live page does: takes new HTML for its regions from an event stream and changes only what differs, so that
// focus, selection, open details and scroll positions stay. Times are written in the viewer's zone.

import { leaveIfSignedOut } from "./session.js";

const LOST_AFTER_MS = 2500;
const RETRY_MS = 2000;
const SILENT_AFTER_MS = 12000;

export const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
const seconds = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const minutes = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const shortDay = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const day = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });

export function writtenTime(unixS, style) {
  const then = new Date(unixS * 1000);
  if (style === "minutes") return minutes.format(then);
  if (style === "day") return shortDay.format(then);
  const today = day.format(then) === day.format(new Date());
  return (today ? "" : day.format(then) + ", ") + seconds.format(then);
}

export function localise(root) {
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

// Puts new HTML, by element id, into those of `ids` that it names.
export function show(regions, ids) {
  for (const [id, html] of Object.entries(regions)) {
    const fresh = document.createElement("div");
    fresh.innerHTML = html;
    localise(fresh);
    const place = document.getElementById(id);
    if (place && ids.includes(id)) morphChildren(place, fresh);
  }
}

// Follows the stream at `address` and hands regions on. A hidden page keeps none, so that many open tabs cost nothing; the
// browser's own retry is not enough, it gives up when the server answers with an error.
export function follow(address, take) {
  let source = null;
  let lostTimer = null;
  let silentTimer = null;

  function connect() {
    if (source || document.hidden) return;
    source = new EventSource(address);
    source.addEventListener("regions", (event) => {
      heard();
      take(JSON.parse(event.data));
    });
    source.addEventListener("still", heard);
    source.addEventListener("error", lose);
    silentTimer = setTimeout(lose, SILENT_AFTER_MS);
  }

  function lose() {
    disconnect();
    leaveIfSignedOut();
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

  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  window.addEventListener("pagehide", disconnect);
  connect();
}
