// Builds elements without ever parsing HTML: text is text, and nothing that a model or a server wrote can be markup.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (selector, root = document) => root.querySelector(selector);

/** An element. `on…` properties are listeners, `class` and `data-…`, `aria-…` attributes; children are nodes or text. */
export function h(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && typeof value === "boolean") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export const icon = (name) => svg("svg", { class: "i", "aria-hidden": "true" }, svg("use", { href: `#i-${name}` }));

/** A button with an icon only; its label is its name and its tooltip. */
export const iconButton = (name, label, onclick, extra = {}) =>
  h("button", { type: "button", class: "quiet icon-only", "aria-label": label, title: label, onclick, ...extra }, icon(name));

let liveTimer = 0;

/** Has a screen reader say a text, once it has stopped changing. */
export function announce(text) {
  clearTimeout(liveTimer);
  liveTimer = setTimeout(() => ($("#live").textContent = text), 80); // ms: so that the same text is said again
  $("#live").textContent = "";
}

/** A short message; with an `action`, `{text, act}`, it stays longer and has a button. */
export function toast(text, kind = "", action = null) {
  const node = h("p", { class: `toast ${kind}` }, kind === "bad" ? icon("alert") : icon("check"), text, action && h("button", { type: "button", onclick: () => (node.remove(), action.act()) }, action.text));
  $("#toasts").append(node);
  announce(text);
  const stays = action ? 10_000 : 3200; // ms
  setTimeout(() => node.classList.add("leaving"), stays);
  setTimeout(() => node.remove(), stays + 400);
}

/** A button that opens a list of commands: arrow keys move, Escape closes, focus returns. */
export function menu(button, items) {
  const list = h("div", { class: "menu", role: "menu", hidden: true });
  const wrap = h("div", { class: "menu-wrap" }, button, list);
  const entries = () => [...list.querySelectorAll("[role=menuitem]:not([disabled])")];
  const open = (shown) => {
    if (shown) {
      list.replaceChildren(
        ...items().map((item) =>
          item.heading
            ? h("p", { class: "menu-heading", role: "presentation" }, item.heading)
            : h("button", { type: "button", role: "menuitem", tabindex: "-1", onclick: () => (open(false), button.focus(), item.act()) },
                h("span", {}, item.text), item.hint && h("span", { class: "hint" }, item.hint)),
        ),
      );
    }
    list.hidden = !shown;
    button.setAttribute("aria-expanded", String(shown));
    if (shown) entries()[0]?.focus();
  };
  button.setAttribute("aria-haspopup", "menu");
  button.setAttribute("aria-expanded", "false");
  button.addEventListener("click", () => open(list.hidden));
  wrap.addEventListener("keydown", (event) => {
    if (list.hidden) return;
    const all = entries();
    const at = all.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      all.at(to % all.length)?.focus();
    } else if (event.key === "Escape") {
      event.stopPropagation();
      open(false);
      button.focus();
    } else if (event.key === "Tab") open(false);
  });
  wrap.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !wrap.contains(event.relatedTarget)) open(false);
  });
  document.addEventListener("pointerdown", (event) => {
    if (!list.hidden && !wrap.contains(event.target)) open(false);
  });
  return wrap;
}

/** Copies text. Where the browser denies the clipboard (no https, a frame), it uses `execCommand`. */
export async function copyText(text) {
  try {
    return await navigator.clipboard.writeText(text);
  } catch {
    // `execCommand` needs no permission, but works only while a click lasts.
  }
  const area = h("textarea", { class: "sr", "aria-hidden": "true" });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("copy");
}

/** Copies text and, for programs that take it, the same as HTML. `html` makes it: the click may be over by then. */
export async function copyRich(html, text) {
  if (!globalThis.ClipboardItem || !navigator.clipboard?.write) return copyText(text);
  try {
    const rich = html().then((made) => new Blob([made], { type: "text/html" }));
    await navigator.clipboard.write([new ClipboardItem({ "text/html": rich, "text/plain": new Blob([text], { type: "text/plain" }) })]);
  } catch {
    await copyText(text);
  }
}

export function saveFile(blob, name) {
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000); // ms: until the browser has begun to write it
}

/** Settings that the browser remembers; without storage it remembers nothing. */
export const memory = {
  get(name, store = localStorageOrNone) {
    try {
      return store().getItem(`ocr.${name}`);
    } catch {
      return null;
    }
  },
  set(name, value, store = localStorageOrNone) {
    try {
      if (value === null) store().removeItem(`ocr.${name}`);
      else store().setItem(`ocr.${name}`, value);
    } catch {
      // Storage may be forbidden.
    }
  },
};

function localStorageOrNone() {
  return localStorage;
}
