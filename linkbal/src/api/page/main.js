// The page of the gateway: what is shown, and when it is asked again.

import { end, loadConfiguration, prepareConfiguration, showFound, showTrial } from "./configuration.js";
import { $, confirm } from "./elements.js";
import { addEvent, addGap, showEvents } from "./events.js";
import { explainFlow, prepareExplain } from "./explain.js";
import { loadFlows, nameUplinks, prepareFlows } from "./flows.js";
import { askJson, followEvents, setToken } from "./gateway.js";
import { loadHistory } from "./history.js";
import { press, showOverview } from "./overview.js";
import { setLanguage, words } from "./words.js";

const SECTIONS = ["overview", "flows", "events", "explain", "configuration"];
/// Time between two questions, in milliseconds: counters change all the time.
const STATUS_EVERY = 3000;
const HISTORY_EVERY = 60_000;

let status = null;
let timer = 0;
let historyAt = 0;
/// True if the last question was answered; null before the first.
let isLive = null;

function section() {
  const name = location.hash.slice(1);
  return SECTIONS.includes(name) ? name : "overview";
}

function showSection() {
  for (const name of SECTIONS) $(`#${name}`).hidden = name !== section();
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${section()}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (section() === "flows") loadFlows();
  if (section() === "events") showEvents();
  if (section() === "configuration") loadConfiguration();
}

function show() {
  if (!status) return;
  showOverview(status);
  showTrial(status, section() === "configuration");
  nameUplinks(status.uplinks.map((uplink) => uplink.name));
}

function connected(yes) {
  isLive = yes;
  $("#link-state").textContent = words(yes ? "live" : "lost");
  $("#link-state").dataset.live = yes;
}

/// Asks for the status, and again after a while; nothing while nobody looks.
async function refresh() {
  clearTimeout(timer);
  timer = setTimeout(refresh, STATUS_EVERY);
  if (document.hidden) return;
  try {
    const fresh = await askJson("/v1/status");
    connected(true);
    status = fresh;
    if (Date.now() - historyAt > HISTORY_EVERY) {
      historyAt = Date.now();
      loadHistory().then(show);
    }
    show();
  } catch (error) {
    connected(false);
    if (error.status) $("#link-state").textContent = error.status === 401 ? words("token_needed") : error.message;
  }
}

function keep(select, apply) {
  const name = select.id;
  select.value = localStorage.getItem(name) ?? select.value;
  select.addEventListener("change", () => {
    localStorage.setItem(name, select.value);
    apply(select.value);
  });
  apply(select.value);
}

async function askForToken() {
  const token = await confirm({ title: words("token"), text: words("token_text"), yes: words("token"), field: words("token") });
  if (token == null) return;
  setToken(token.trim());
  refresh();
  showSection();
}

const own = navigator.language.startsWith("pt") ? "pt" : "en";
$("#language").value = own;
keep($("#language"), (name) => {
  setLanguage(name);
  if (isLive != null) connected(isLive);
  show();
  showFound();
  showSection();
});
keep($("#colours"), (name) => (document.documentElement.dataset.colours = name));
$("#token").addEventListener("click", askForToken);
$("#event-uplink").addEventListener("change", showEvents);
$("#range").addEventListener("change", () => loadHistory().then(show));
$("#uplinks").addEventListener("click", (event) => {
  const button = event.target.closest("button[data-verb]");
  if (button) press(button.dataset.verb, button.dataset.uplink).then(refresh);
});
prepareFlows((flow) => {
  location.hash = "#explain";
  explainFlow(flow);
});
prepareExplain();
prepareConfiguration(refresh);
$("#notices").addEventListener("click", (event) => {
  const button = event.target.closest("button[data-end]");
  if (button) end(button.dataset.end).then(refresh);
});
addEventListener("hashchange", () => {
  showSection();
  $("#main").focus();
});
document.addEventListener("visibilitychange", refresh);
refresh();
followEvents(
  (message) => {
    if (message.type === "message") addEvent(JSON.parse(message.data));
    else if (message.type === "gap") addGap(JSON.parse(message.data));
    else return;
    if (section() === "events") showEvents();
    clearTimeout(timer);
    timer = setTimeout(refresh, 200);
  },
  (yes) => yes && refresh(),
);
