// What happened.

import { $, make, replace } from "./elements.js";
import { reasonOf, told } from "./reasons.js";
import { time, words } from "./words.js";

const KEPT = 300;
/// Events, and gaps between them, as they came. Numbers may begin anew: only with its run is one an event's.
const events = new Map();

export function addEvent(event) {
  add(`${event.sequence}-${event.run}`, event);
}

/// Takes in that events are missing.
export function addGap({ after, next }) {
  add(`gap ${after} ${next}`, { isGap: true });
}

function add(key, event) {
  events.set(key, event);
  if (events.size > KEPT) events.delete(events.keys().next().value);
}

export function showEvents() {
  const uplink = $("#event-uplink").value;
  const shown = [...events].filter(([, event]) => !uplink || event.isGap || event.uplink === uplink).reverse();
  const items = shown.map(([key, event]) => make("li", { class: event.severity, "data-key": key }, ...line(event)));
  replace($("#event-list"), items.length ? items : [make("li", {}, words("no_events"))]);
}

function line(event) {
  if (event.isGap) return [make("span", {}, words("gap"))];
  return [make("time", { datetime: event.time }, time(event.time)), make("span", {}, headline(event))];
}

function headline(event) {
  const name = event.uplink ?? event.interface ?? event.domain ?? event.object ?? "";
  const subject = [told(event.kind), name, event.family && told(event.family)].filter(Boolean).join(" ");
  const change = event.from && event.to && event.from !== event.to ? ` ${told(event.from)} → ${told(event.to)}` : "";
  return `${subject}:${change}${change ? ":" : ""} ${reasonOf(event)}`;
}
