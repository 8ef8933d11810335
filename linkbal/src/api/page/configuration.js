// The configuration: an editor with the problems located, and a trial with its countdown.

import { problems, changes, showLines, caretTo } from "./editor.js";
import { $, confirm, replace, say } from "./elements.js";
import { ask, askJson, hasToken } from "./gateway.js";
import { counted, span, time, words } from "./words.js";

/// The configuration in force; null while it is not known.
let known = null;
/// True if the last question for it had no answer.
let lost = false;
/// True while the editor has something of the user's.
let dirty = false;
/// End of the trial in milliseconds; null without one.
let ends = null;
/// Result of the last check; null without one.
let found = null;
/// The text on trial, if it began here; null otherwise.
let tried = null;
/// Reason for which a text could not be kept, told with the trial.
let unwritable = null;

const text = () => $("#conf-text").value;

export function prepareConfiguration(onChange) {
  $("#conf-text").addEventListener("input", () => {
    dirty = true;
    found = null;
    showLines(text(), []);
  });
  $("#conf-text").addEventListener("scroll", () => ($("#conf-lines").scrollTop = $("#conf-text").scrollTop));
  $("#conf-check").addEventListener("click", check);
  $("#conf-try").addEventListener("click", () => begin().then(onChange));
  $("#conf-reset").addEventListener("click", reset);
  $("#conf-save").addEventListener("click", save);
  $("#trial-keep").addEventListener("click", () => end("confirm").then(onChange));
  $("#trial-undo").addEventListener("click", () => end("undo").then(onChange));
  $("#conf-problems").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) caretTo(Number(button.dataset.line), Number(button.dataset.column));
  });
  setInterval(tick, 500);
}

/// Asks for the configuration in force, and shows it unless the user has begun to write.
export async function loadConfiguration() {
  try {
    known = await askJson("/v1/configuration");
    if (!dirty) setText(known.text);
    $("#conf-about").textContent = words("conf_about", known.file, time(known.since));
    lost = false;
  } catch (error) {
    // Without an answer, what is shown stays, and is asked for again with the next status.
    lost = error.status !== 401;
    if (!lost) known = null;
    $("#conf-about").textContent = error.status === 401 ? words("token_needed") : error.message;
  }
  $("#conf-editor").hidden = known == null;
}

/// Shows what the status says of the configuration; asks for it again if another one is in force.
export function showTrial(status, visible) {
  const left = status.confirm_within_s;
  if (left == null) [ends, tried, unwritable] = [null, null, null];
  else if (ends == null || Math.abs(ends - Date.now() - left * 1000) > 2000) ends = Date.now() + left * 1000;
  tick();
  if (visible && (lost || (known && known.since !== status.configuration.since))) loadConfiguration();
}

function tick() {
  $("#trial").hidden = ends == null;
  for (const button of document.querySelectorAll("#trial button, #conf-try, #conf-time")) button.hidden = !hasToken();
  if (ends == null) return;
  const left = Math.max(0, Math.round((ends - Date.now()) / 1000));
  $("#trial-text").textContent = words("on_trial", span(left));
  $("#trial-note").textContent = unwritable ?? "";
}

function setText(value) {
  $("#conf-text").value = value;
  showLines(text(), []);
}

function reset() {
  dirty = false;
  if (known) setText(known.text);
  clear();
}

function clear() {
  found = null;
  replace($("#conf-problems"), []);
  replace($("#conf-changes"), []);
  $("#conf-said").textContent = "";
}

const tell = (error) => ($("#conf-said").textContent = error.status === 401 ? words("token_needed") : error.message);

/// Asks for the problems of the text; returns whether it can be tried.
async function check() {
  clear();
  try {
    found = JSON.parse(await ask("/v1/configuration/check", "POST", text()));
    showFound();
    return found.usable && !found.untried;
  } catch (error) {
    tell(error);
    return false;
  }
}

/// Shows what the last check has found, in the language of now.
export function showFound() {
  if (!found) return;
  const all = [...found.problems, ...found.warnings];
  showLines(text(), all);
  replace($("#conf-problems"), problems(all));
  replace($("#conf-changes"), changes(found.changes));
  const lines = [
    found.usable ? words("conf_usable") : words("conf_unusable", found.problems.length + found.left_out),
    found.left_out > 0 ? counted("left_out", found.left_out) : null,
    found.usable && found.changes.length === 0 ? words("conf_same") : null,
    found.untried,
  ];
  $("#conf-said").textContent = lines.filter(Boolean).join(" ");
}

async function begin() {
  if (!(await check())) return;
  const limit = Number($("#conf-limit").value);
  const asked = { title: words("conf_try"), text: words("try_text", span(limit)), yes: words("conf_try") };
  if ((await confirm(asked)) == null) return;
  const sent = text();
  try {
    const answer = JSON.parse(await ask(`/v1/configuration/try?confirm=${limit}`, "POST", sent));
    ends = Date.now() + limit * 1000;
    tried = sent;
    unwritable = answer.unwritable;
    dirty = true;
    $("#conf-said").textContent = answer.warnings.trim();
    tick();
    $("#trial-keep").focus();
  } catch (error) {
    tell(error);
  }
}

/// Ends the trial: with `confirm` or `undo`.
export async function end(verb) {
  try {
    await ask(`/v1/${verb}`, "POST");
    // What was written since then is the user's, and stays.
    if (verb === "confirm" && tried != null) dirty = text() !== tried;
    clear();
    say(words(verb === "confirm" ? "kept" : "undid"));
  } catch (error) {
    say(error.status === 401 ? words("token_needed") : words("refused", error.message));
  }
}

/// Gives the text to the user as a file.
function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text()], { type: "application/toml" }));
  link.download = known?.file.split("/").at(-1) ?? "linkbal.toml";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
