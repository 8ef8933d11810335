// Charts and outages of the uplinks, from the gateway's history.

import { $, draw, make } from "./elements.js";
import { askLines } from "./gateway.js";
import { reasonOf, told } from "./reasons.js";
import { counted, millis, rate, span, time, words } from "./words.js";

const DAY = 86_400_000;
/// Length of what is shown, in milliseconds; the last hour without one.
const RANGES = { hour: 0, day: DAY, month: 31 * DAY };
const HEIGHT = 30;

let byUplink = new Map();

/// Asks for the history of all uplinks over the range that is chosen.
export async function loadHistory() {
  const length = RANGES[$("#range").value];
  const since = new Date(Date.now() - length).toISOString().replace(/\.\d+/, "");
  try {
    const records = await askLines(length ? `/v1/history?since=${since}` : "/v1/history");
    byUplink = sorted(records);
  } catch {
    byUplink = new Map();
  }
}

function sorted(records) {
  const found = new Map();
  const whole = records.find((record) => record.span)?.span;
  const of = (name) => {
    if (!found.has(name)) found.set(name, { whole, points: [], outages: [] });
    return found.get(name);
  };
  for (const { point, outage } of records) {
    if (point) of(point.uplink).points.push(point);
    if (outage) of(outage.uplink).outages.push(outage);
  }
  return found;
}

/// Returns the charts and the outages of an uplink.
export function history(name) {
  const known = byUplink.get(name);
  if (!known?.points.length) return [];
  const lines = (point) => [point.ipv4, point.ipv6].filter(Boolean);
  const latency = (point) => lines(point).find((line) => line.latency_ms != null)?.latency_ms ?? null;
  const traffic = (point) => (point.seconds ? (8 * (point.bytes_up + point.bytes_down)) / point.seconds : null);
  const isDown = (point) => lines(point).some((line) => line.down_s > 0);
  return [
    chart(known, latency, isDown, (most) => words("latency_chart", millis(most))),
    chart(known, traffic, isDown, (most) => words("traffic_chart", rate(most))),
    outages(known.outages),
  ];
}

/// Draws a value over time; where the line was down, it is red.
function chart({ whole, points }, value, isDown, title) {
  const from = Date.parse(whole.from);
  const length = Math.max(1, Date.parse(whole.to) - from, whole.step_s * 1000);
  const x = (point) => (100 * (Date.parse(point.time) - from)) / length;
  const width = (100_000 * whole.step_s) / length;
  const most = Math.max(1, ...points.map((point) => value(point) ?? 0));
  const runs = [[]];
  let last = null;
  for (const point of points) {
    const y = value(point);
    if (y == null || (last != null && x(point) - last > 1.5 * width)) runs.push([]);
    if (y != null) runs.at(-1).push(`${x(point).toFixed(2)},${(HEIGHT - ((HEIGHT - 2) * y) / most).toFixed(2)}`);
    last = x(point);
  }
  const down = points.filter(isDown).map((point) =>
    draw("rect", { x: x(point).toFixed(2), y: 0, width: Math.max(width, 0.6).toFixed(2), height: HEIGHT }));
  const shapes = runs.filter((run) => run.length > 1).map((run) => draw("polyline", { points: run.join(" ") }));
  const picture = { class: "chart", viewBox: `0 0 100 ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" };
  return make("figure", {}, draw("svg", picture, ...down, ...shapes), make("figcaption", {}, title(most)));
}

function outages(list) {
  if (!list.length) return make("p", { class: "soft" }, words("no_outages"));
  const seconds = list.reduce((sum, outage) => sum + outage.lasted_s, 0);
  const item = (outage) =>
    make("li", {}, `${time(outage.begin)}, ${told(outage.family)}: ${span(outage.lasted_s)}${outage.end ? "" : ` (${words("still")})`}: ${reasonOf(outage)}`);
  return make(
    "details", {}, make("summary", {}, counted("outages", list.length, span(seconds))),
    make("ul", {}, ...list.toReversed().slice(0, 20).map(item)),
  );
}
