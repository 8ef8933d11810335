// The editor: numbers of lines, marks of problems, and what differs.

import { $, make } from "./elements.js";
import { words } from "./words.js";

/// Shows the numbers of the lines behind the text, and marks those with problems.
export function showLines(text, found) {
  const box = $("#conf-lines");
  const count = text.split("\n").length;
  while (box.childElementCount > count) box.lastChild.remove();
  while (box.childElementCount < count) box.append(make("div", {}, `${box.childElementCount + 1}`));
  for (const line of box.querySelectorAll(".bad")) line.classList.remove("bad");
  for (const { line, file } of found) if (line && !file) box.children[line - 1]?.classList.add("bad");
  box.scrollTop = $("#conf-text").scrollTop;
}

/// Returns the place in a text of a column that is counted in bytes.
function place(text, line, column) {
  const lines = text.split("\n");
  const before = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0);
  const bytes = new TextEncoder().encode(lines[line - 1] ?? "").slice(0, column - 1);
  return before + new TextDecoder().decode(bytes).length;
}

/// Moves the caret to a place, and the place into view.
export function caretTo(line, column) {
  const field = $("#conf-text");
  const at = place(field.value, line, column);
  const height = field.scrollHeight / field.value.split("\n").length;
  field.focus();
  field.setSelectionRange(at, at);
  field.scrollTop = Math.max(0, (line - 1) * height - field.clientHeight / 3);
  for (const marked of document.querySelectorAll("#conf-lines .here")) marked.classList.remove("here");
  $("#conf-lines").children[line - 1]?.classList.add("here");
}

/// Returns the items of a list of problems; one of the text leads to its place.
export function problems(found) {
  return found.map((problem) => {
    const { line, column, file, message, help } = problem;
    const at = file ? `${file}:${line ?? "?"}` : words("line_column", line, column);
    const where = line && !file ? make("button", { type: "button", "data-line": line, "data-column": column }, at) : null;
    const named = file ? make("span", { class: "soft" }, `${at} `) : null;
    return make("li", {}, where, named, make("div", {}, message), help ? make("div", { class: "soft" }, help) : null);
  });
}

/// Returns what differs, with the kind of each line.
export function changes(lines) {
  const kinds = { "+": "added", "-": "removed" };
  return lines.map((line) => make("div", { class: kinds[line[0]] ?? "soft" }, line));
}
