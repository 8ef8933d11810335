// What happened.

import { $, make, replace } from "./elements.js";
import { told } from "./reasons.js";
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
  const subject = [told(event.kind), name, event.family && told(event.family)].filter(Boolean).join(" ");
  const change = event.from && event.to && event.from !== event.to ? ` ${told(event.from)} → ${told(event.to)}` : "";
  return `${subject}:${change}${change ? ":" : ""} ${told(event.reason)}`;
}
