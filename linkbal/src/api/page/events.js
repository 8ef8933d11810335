// What happened.

import { $, make, replace } from "./elements.js";
import { time, words } from "./words.js";

const KEPT = 300;
const events = new Map();

export function addEvent(event) {
  events.set(event.sequence, event);
  if (events.size > KEPT) events.delete(Math.min(...events.keys()));
}

export function showEvents() {
  const uplink = $("#event-uplink").value;
  const shown = [...events.values()].filter((event) => !uplink || event.uplink === uplink);
  shown.sort((a, b) => b.sequence - a.sequence);
  const items = shown.map((event) =>
    make("li", { class: event.severity, "data-key": event.sequence }, make("time", { datetime: event.time }, time(event.time)), make("span", {}, headline(event))),
  );
  replace($("#event-list"), items.length ? items : [make("li", {}, words("no_events"))]);
}

function headline(event) {
  const name = event.uplink ?? event.interface ?? event.domain ?? event.object ?? "";
  const subject = [event.kind, name, event.family].filter(Boolean).join(" ");
  const change = event.from && event.to && event.from !== event.to ? ` ${event.from} → ${event.to}` : "";
  return `${subject}:${change}${change ? ":" : ""} ${event.reason}`;
}
