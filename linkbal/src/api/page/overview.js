// The uplinks: how packets go, what state each is in, and why.

import { $, confirm, draw, make, replace, say } from "./elements.js";
import { ask, hasToken } from "./gateway.js";
import { history } from "./history.js";
import { reasonOf, remedyOf, told } from "./reasons.js";
import { counted, millis, number, percent, rate, span, time, words } from "./words.js";

const families = (uplink) => [["IPv4", uplink.ipv4], ["IPv6", uplink.ipv6]].filter(([, family]) => family);

/// Returns the state of a family in a word: one that is down for a drill is no outage, and one that is
/// up and drained is draining.
function stateOf(uplink, family) {
  if (family.drilled && family.state !== "admin-down") return "drill";
  return uplink.admin === "drained" && family.state === "up" ? "draining" : family.state;
}

/// States from the best to the worst.
const STATES = ["up", "draining", "drill", "init", "down", "admin-down"];

/// Returns the state of an uplink: that of its better family.
function stateOfAll(uplink) {
  const states = families(uplink).map(([, family]) => stateOf(uplink, family));
  return STATES.find((state) => states.includes(state)) ?? uplink.state;
}

export function showOverview(status) {
  const uplinks = status.uplinks.toSorted((a, b) => a.tier - b.tier || a.name.localeCompare(b.name));
  replace($("#notices"), notices(status));
  replace($("#way"), [way(status, uplinks)]);
  replace($("#uplinks"), uplinks.map((uplink) => card(status, uplink)));
}

function notices(status) {
  const list = [];
  const add = (text, ...more) => list.push(make("li", {}, text, ...more));
  const { configuration } = status;
  if (!status.installed) add(words("not_installed"));
  if (configuration.last_good) add(words("last_good", configuration.file, configuration.last_good.reason));
  if (configuration.refused) add(words("refused_file", configuration.refused.error));
  if (status.confirm_within_s != null) {
    const button = (verb) => make("button", { type: "button", "data-end": verb }, words(verb));
    const buttons = hasToken() ? make("span", { class: "buttons" }, button("confirm"), button("undo")) : null;
    add(words("on_trial", span(status.confirm_within_s)), buttons);
  }
  if (status.drill) add(words("drill_on", status.drill));
  for (const lan of status.lan) if (!lan.exists) add(words("lan_missing", lan.interface));
  for (const { tier } of status.fallbacks) add(tier == null ? words("fallback_none") : words("fallback", tier));
  for (const host of status.limited_hosts) add(words("limited", host.host, number(host.not_stored)));
  for (const { what, owner, meaning, advice, compatible } of status.conflicts) {
    add(words(compatible ? "note" : "conflict", [`${what} (${owner}): ${meaning}`, advice].filter(Boolean).join("; ")));
  }
  for (const { what, by, repairs } of status.throttled) add(words("undone", what, by ?? "?", repairs));
  for (const [what, why] of Object.entries(status.refused)) add(words("kernel_refuses", what, why));
  return list;
}

/// Places across the picture: of the LAN, if there is room, the gateway, and the lines to the uplinks.
const WIDE = { lan: 10, gateway: 210, from: 330, to: 450, width: 680 };
const NARROW = { gateway: 4, from: 124, to: 170, width: 400 };
const narrow = matchMedia("(max-width: 40rem)");

/// Draws the way from the LAN to the uplinks; lines are as thick as there is traffic.
function way(status, uplinks) {
  const at = narrow.matches ? NARROW : WIDE;
  const row = 62;
  const height = Math.max(uplinks.length * row, 100);
  const middle = height / 2;
  const most = Math.max(1, ...uplinks.map(({ load }) => load.up + load.down));
  const box = (x, width, title, below) => [
    draw("rect", { x, y: middle - 26, width, height: 52, rx: 8 }),
    draw("text", { x: x + width / 2, y: middle - 2, "text-anchor": "middle" }, title),
    draw("text", { x: x + width / 2, y: middle + 16, "text-anchor": "middle", class: "soft" }, below),
  ];
  const bend = (at.to - at.from) / 2;
  const lines = uplinks.flatMap((uplink, number) => {
    const y = (number + 0.5) * (height / uplinks.length);
    const state = stateOfAll(uplink);
    const total = uplink.load.up + uplink.load.down;
    const width = 2 + 9 * Math.sqrt(total / most);
    const shape = `M ${at.from} ${middle} C ${at.from + bend} ${middle} ${at.to - bend} ${y} ${at.to} ${y}`;
    const busy = state === "up" && total > 10_000;
    return [
      draw("path", { d: shape, class: `is-${state}`, "stroke-width": width.toFixed(1) }),
      busy ? draw("path", { d: shape, class: "flows" }) : null,
      draw("text", { x: at.to + 10, y: y - 3 }, `${uplink.name} · ${words(`state_${state}`)}`),
      draw("text", { x: at.to + 10, y: y + 17, class: "soft" }, `↑\u00a0${rate(uplink.load.up)}  ↓\u00a0${rate(uplink.load.down)}`),
    ];
  });
  const said = uplinks.map((uplink) => `${uplink.name}: ${words(`state_${stateOfAll(uplink)}`)}, ${rate(uplink.load.down)}`);
  const hosts = status.lan.map((lan) => lan.interface).join(", ");
  const lan = at.lan == null ? [] : [
    draw("path", { d: `M ${at.lan + 110} ${middle} H ${at.gateway}`, class: "is-up", "stroke-width": 5 }),
    ...box(at.lan, 110, "LAN", hosts.length > 14 ? `${hosts.slice(0, 13)}…` : hosts),
  ];
  const flows = uplinks.reduce((sum, uplink) => sum + (uplink.live_flows ?? 0), 0);
  return draw(
    "svg", { viewBox: `0 0 ${at.width} ${height}`, role: "img", "aria-label": `${words("way")}. ${said.join(". ")}` },
    ...lan,
    ...lines,
    ...box(at.gateway, 120, words("gateway"), counted("in_all", flows)),
  );
}

function card(status, uplink) {
  const { load } = uplink;
  const capacity = load.capacity && `; ${words("of_capacity", percent(load.capacity.used))}`;
  const facts = [
    ["rate", `↑\u00a0${rate(load.up)}  ↓\u00a0${rate(load.down)}${capacity ?? ""}${load.full ? `; ${words("full")}` : ""}`],
    ["live_flows", uplink.live_flows == null ? "-" : number(uplink.live_flows)],
    ["share", words("share_is", uplink.actual_share == null ? "-" : percent(uplink.actual_share), percent(uplink.target_share))],
  ];
  return make(
    "article", { "data-state": stateOfAll(uplink), "data-key": uplink.name, "aria-label": uplink.name },
    make("div", { class: "top" }, make("h3", {}, uplink.name), make("span", { class: "soft" }, `${uplink.interface} · ${words("tier")} ${uplink.tier}`)),
    ...remarks(status, uplink).map((text) => make("div", {}, text)),
    make("ul", { class: "states" }, ...together(families(uplink)).map((alike) => familyState(uplink, alike))),
    make("dl", { class: "facts" }, ...facts.flatMap(([key, text]) => [make("dt", {}, words(key)), make("dd", {}, text)])),
    ...history(uplink.name),
    hasToken() ? buttons(uplink) : null,
  );
}

/// Returns what is to be said of an uplink as a whole.
function remarks(status, uplink) {
  const list = [];
  if (status.drill === uplink.name) list.push(words("drill_on", uplink.name));
  if (stateOfAll(uplink) === "draining") list.push(drained(uplink));
  const waitsFor = betterTier(status, uplink);
  if (waitsFor != null) list.push(words("waits", waitsFor));
  return list;
}

/// Says how far an uplink is drained.
function drained({ target_share, live_flows }) {
  if (target_share > 0) return words("draining_used");
  if (live_flows == null) return words("draining_new");
  return live_flows === 0 ? words("draining_none") : counted("draining", live_flows);
}

/// Returns the tier in use, if an uplink that is up gets no new flows for being of a worse one.
function betterTier({ uplinks }, uplink) {
  const isUsed = (other) => families(other).some(([, family]) => family.target_share > 0);
  if (stateOfAll(uplink) !== "up" || isUsed(uplink)) return null;
  const better = uplinks.filter((other) => other.tier < uplink.tier && isUsed(other));
  return better.length ? Math.min(...better.map((other) => other.tier)) : null;
}

/// Longest time between the changes of two families that are told as one, in milliseconds.
const TOGETHER = 2000;

/// Returns the families of an uplink, those together that have one state for one reason.
function together(each) {
  const apart = each.map((family) => [family]);
  if (each.length < 2) return apart;
  const [[, one], [, other]] = each;
  const same = ["state", "reason", "remedy", "degraded", "drilled"].every((key) => one[key] === other[key]);
  return same && Math.abs(Date.parse(one.since) - Date.parse(other.since)) < TOGETHER ? [each] : apart;
}

function familyState(uplink, alike) {
  const [[, family]] = alike;
  const names = alike.map(([name]) => name).join(", ");
  const state = stateOf(uplink, family);
  const why = [reasonOf(family), remedyOf(family)].filter(Boolean).join("; ");
  const measured = ({ latency_ms, jitter_ms, loss }) =>
    `${words("latency")}\u00a0${millis(latency_ms)} · ${words("jitter")}\u00a0${millis(jitter_ms)} · ${words("loss")}\u00a0${percent(loss)}`;
  const measures = alike.map(([name, each]) => (alike.length > 1 ? `${name}: ` : "") + measured(each));
  return make(
    "li", {}, `${names} `, make("span", { class: `state ${state}` }, words(`state_${state}`)),
    make("span", { class: "soft" }, ` ${words("since", time(family.since))}`),
    family.degraded ? make("div", {}, words("degraded")) : null,
    make("div", {}, why), ...measures.map((text) => make("div", { class: "soft" }, text)),
  );
}

function buttons(uplink) {
  const verbs = uplink.admin === "enabled" ? ["drain", "disable", "drill"] : ["enable"];
  const button = (verb) => make("button", { type: "button", "data-verb": verb, "data-uplink": uplink.name }, words(verb));
  return make("div", { class: "buttons" }, ...verbs.map(button));
}

/// Carries out what a button says, once the user has said yes.
export async function press(verb, uplink) {
  const text = words(`${verb}_text`, uplink);
  const answer = await confirm({ title: `${words(verb)}: ${uplink}`, text, yes: words(verb) });
  if (answer == null) return;
  const more = verb === "drill" ? "?time_ms=15000&force=false" : "";
  try {
    const answer = await ask(`/v1/uplinks/${encodeURIComponent(uplink)}/${verb}${more}`, "POST");
    const fault = verb === "drill" ? drillFault(answer, uplink) : null;
    say(fault ?? words("done", `${words(verb)} ${uplink}`));
  } catch (error) {
    say(error.status === 401 ? words("token_needed") : words("refused", told(error.message)));
  }
}

/// Says what went wrong in a drill whose updates these are; null if nothing did.
export function drillFault(updates, uplink) {
  const done = updates.split("\n").filter(Boolean).map((line) => JSON.parse(line)).find(({ step }) => step === "done");
  if (!done) return words("drill_broken", uplink);
  const missed = done.found_down_ms.filter(([, at]) => at == null).map(([family]) => told(family));
  const faults = [
    missed.length ? words("drill_missed", missed.join(", ")) : null,
    done.up_again_ms == null ? words("drill_not_up", uplink) : null,
  ];
  return faults.filter(Boolean).join(" ") || null;
}
