// Elements of the page. Texts are never read as HTML.

export const $ = (selector) => document.querySelector(selector);

/// Creates an element; attributes that are null or false are left out.
export function make(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/// Creates an element of SVG.
export function draw(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value != null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

/// Replaces the children of an element, if they differ: what has the focus keeps it.
export function replace(element, children) {
  const fresh = children.filter((child) => child != null);
  const same = (old, now) => old.isEqualNode(now);
  while (element.childNodes.length > fresh.length) element.lastChild.remove();
  fresh.forEach((child, at) => {
    const old = element.childNodes[at];
    if (!old) element.append(child);
    else if (!same(old, child)) update(old, child);
  });
}

function update(old, fresh) {
  const alike = old.nodeName === fresh.nodeName && old.nodeType === 1 && fresh.children.length > 0;
  if (!alike || old.dataset?.key !== fresh.dataset?.key) {
    old.replaceWith(fresh);
    return;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) old.setAttribute(name, value);
  replace(old, [...fresh.childNodes]);
}

let toastTimer = 0;

/// Says something for some seconds.
export function say(text) {
  $("#toast").textContent = text;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => ($("#toast").textContent = ""), 8000);
}

/// Asks before something happens; returns the text of the field, or null if it is not to happen.
export function confirm({ title, text, yes, field }) {
  const dialog = $("#ask");
  $("#ask-title").textContent = title;
  $("#ask-text").textContent = text;
  $("#ask-yes").textContent = yes;
  $("#ask-field").hidden = !field;
  $("#ask-label").textContent = field ?? "";
  $("#ask-input").value = "";
  $("#ask-input").type = field ? "password" : "text";
  // By itself, it would press the first button, which is Cancel.
  $("#ask-input").onkeydown = (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    dialog.close("yes");
  };
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => {
    dialog.onclose = () => done(dialog.returnValue === "yes" ? $("#ask-input").value : null);
  });
}
