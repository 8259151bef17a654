// Puts the page together: files come in, the queue reads them, the viewer and the text show what was read.

import { api, connection, token } from "./api.js";
import { $, announce, h, icon, iconButton, memory, toast } from "./dom.js";
import { titleOf } from "./errors.js";
import { GpuPanel } from "./gpu.js";
import { has, seconds, size, startLanguage, t } from "./i18n.js";
import { Queue, SHARP_SIDE } from "./queue.js";
import { ResultPane } from "./result.js";
import { ACTIVE, doing } from "./states.js";
import { together } from "./together.js";
import { Viewer } from "./viewer.js";

const TICK_MS = 1000;
const THEMES = ["system", "light", "dark"];
const NEEDS = { find_term: "field.find_term", custom_prompt: "field.custom_prompt" };

let catalogue = { modes: [], resolutions: [], limits: {}, auth: false };
let mode = "document";
let chosen = null;
const terms = { find_term: "", custom_prompt: "" };

const queue = new Queue((item) => {
  const spec = modeOf(mode);
  item.asked = { mode, find_term: terms.find_term.trim() };
  return {
    mode,
    find_term: spec?.needs === "find_term" ? terms.find_term.trim() : "",
    custom_prompt: spec?.needs === "custom_prompt" ? terms.custom_prompt.trim() : "",
    pages: item.pages.trim(),
    resolution: $("#resolution").value || "auto",
    boxes: spec?.locates ? "true" : "false",
  };
});
const viewer = new Viewer($("#page-pane"));
const result = new ResultPane($("#text-pane"));
const unlight = together(viewer, result);
let gpu = null;

const modeOf = (name) => catalogue.modes.find((each) => each.name === name);
const isWork = () => queue.items.length > 0;

// -- modes and options

async function loadModes() {
  try {
    catalogue = await api.modes();
  } catch (error) {
    if (error.code !== "unreachable") toast(titleOf(error), "bad");
    return;
  }
  const remembered = memory.get("mode");
  if (!modeOf(mode)?.available || remembered) mode = modeOf(remembered)?.available ? remembered : (catalogue.modes.find((each) => each.available)?.name ?? mode);
  $("#token-button").hidden = !catalogue.auth;
  $("#version").textContent = `deepseek-ocr-mcp ${catalogue.version ?? ""}`;
  paintModes();
}

const modeText = (kind, spec) => (has(`mode.${spec.name}.${kind}`) ? t(`mode.${spec.name}.${kind}`) : kind === "name" ? spec.name : spec.purpose);

function paintModes() {
  const focused = document.activeElement?.name === "mode" ? document.activeElement.value : null;
  $("#mode-list").replaceChildren(
    ...catalogue.modes.map((spec) => {
      const input = h("input", { type: "radio", name: "mode", value: spec.name, class: "sr", "aria-describedby": "mode-purpose", checked: spec.name === mode, onchange: () => chooseMode(spec) });
      input.setAttribute("aria-disabled", String(!spec.available));
      const label = h("label", { class: `mode ${spec.available ? "" : "off"}`, title: spec.available ? modeText("purpose", spec) : spec.why_not }, input, icon(spec.name), h("span", {}, modeText("name", spec)));
      return label;
    }),
  );
  if (focused) $(`#mode-list input[value="${focused}"]`)?.focus();
  const select = $("#resolution");
  const before = select.value || "auto";
  select.replaceChildren(...catalogue.resolutions.map((entry) => {
    const name = typeof entry === "string" ? entry : entry.name;
    return new Option(has(`resolution.${name}`) ? t(`resolution.${name}`) : name, name);
  }));
  select.value = before;
  paintOptions(modeOf(mode));
}

function chooseMode(spec) {
  if (!spec.available) {
    // It may be looked at, to learn why; what is in force stays.
    paintOptions(spec);
    $(`#mode-list input[value="${mode}"]`).checked = true;
    return;
  }
  mode = spec.name;
  memory.set("mode", mode);
  paintOptions(spec);
  paintRead();
  if (spec.needs) $("#term").focus({ preventScroll: true });
}

function paintOptions(spec) {
  if (!spec) return;
  const purpose = $("#mode-purpose");
  purpose.classList.toggle("off", !spec.available);
  purpose.replaceChildren(
    ...(spec.available
      ? [modeText("purpose", spec)]
      : [h("b", {}, t("mode.off", { mode: modeText("name", spec) })), " ", h("span", { lang: "en" }, spec.why_not)]),
  );
  const current = modeOf(mode);
  $("#term-field").hidden = !current?.needs;
  purpose.hidden = spec === current && Boolean(current?.needs);
  if (current?.needs) {
    $("#term-label").textContent = t(NEEDS[current.needs]);
    $("#term").placeholder = t(`${NEEDS[current.needs]}.example`);
    $("#term").value = terms[current.needs];
  }
  $("#pages-field").hidden = !(chosen && chosen.count > 1);
  $("#pages").placeholder = t("field.pages.all");
  if (document.activeElement !== $("#pages")) $("#pages").value = chosen?.pages ?? "";
}

/** What the button would read: what was not read yet, or the chosen file again. */
function toRead() {
  const open = queue.items.filter((item) => !["done", "error"].includes(item.state) && !ACTIVE.has(item.state));
  if (open.length) return open;
  return chosen && !ACTIVE.has(chosen.state) && chosen.error?.code !== "too_large_here" ? [chosen] : [];
}

function paintRead() {
  const items = toRead();
  const again = items.length === 1 && items[0].state !== "ready";
  $("#read-label").textContent = again ? t("readAgain") : items.length > 1 ? t("read.many", { n: items.length }) : t("read.one");
  $("#read").disabled = items.length === 0;
  // To read again is possible, not urgent.
  $("#read").className = again ? "plain" : "primary";
}

function submit() {
  const spec = modeOf(mode);
  if (spec?.needs && !terms[spec.needs].trim()) {
    $("#term").focus();
    $("#term-field").classList.add("missing");
    announce(t("missing", { field: t(NEEDS[spec.needs]) }));
    return;
  }
  const items = toRead();
  if (!items.length) return;
  queue.start(items);
  if (matchMedia("(max-width: 680px)").matches) $(".panes").scrollIntoView({ behavior: "smooth" });
  if (!ACTIVE.has(chosen?.state)) choose(items[0]);
}

// -- files

function addFiles(files) {
  const list = [...files].filter((file) => file.size > 0 || file.type);
  if (!list.length) return;
  const before = queue.items.length;
  const added = queue.add(list, catalogue.limits?.max_file_mb);
  if (!before || !chosen || !ACTIVE.has(chosen.state)) choose(added[0]);
  announce(t("added", { n: added.length }));
  if (!before) $("#read").focus({ preventScroll: true });
}

function choose(item) {
  chosen = item;
  paintList();
  paintPanes();
  paintOptions(modeOf(mode));
  paintRead();
}

function remove(item) {
  const at = queue.items.indexOf(item);
  queue.remove(item);
  announce(t("removed", { name: item.name }));
  if (chosen === item) choose(queue.items[Math.min(at, queue.items.length - 1)] ?? null);
  ($(`#files [aria-current=true]`) ?? $("[data-do=choose]")).focus();
}

const metaOf = (item) => {
  if (ACTIVE.has(item.state)) return doing(item);
  if (item.state === "error") return titleOf(item.error);
  if (item.state === "cancelled") return t("state.cancelled");
  const facts = [item.count > 1 && t("pages.n", { n: item.count }), size(item.file.size)];
  if (item.state === "done") facts.push(t("readIn", { s: seconds(Math.max(0.1, item.result.timing.total_s)) }));
  return facts.filter(Boolean).join(" · ");
};

const rows = new Map();

function row(item) {
  const thumb = h("span", { class: "thumb" });
  const name = h("span", { class: "file-name" }, item.name);
  const meta = h("span", { class: "file-meta" });
  const bar = h("span", { class: "fill" });
  const state = h("span", { class: "file-state", "aria-hidden": "true" });
  const open = h("button", { type: "button", class: "file-open", onclick: () => choose(item) }, h("span", { class: "thumb-wrap" }, thumb, state), h("span", { class: "file-text" }, name, meta), h("span", { class: "track" }, bar));
  const tools = h("span", { class: "file-tools" });
  const node = h("li", { class: "file", draggable: "true" }, open, tools);
  open.addEventListener("keydown", (event) => {
    if (event.altKey && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
      event.preventDefault();
      move(item, event.key === "ArrowUp" ? -1 : 1);
      open.focus();
    } else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      event.preventDefault();
      const next = queue.items[queue.items.indexOf(item) + (event.key === "ArrowUp" ? -1 : 1)];
      if (next) rows.get(next.id).open.focus();
    } else if (event.key === "Delete") remove(item);
  });
  node.addEventListener("dragstart", (event) => {
    event.dataTransfer.setData("application/x-ocr-item", String(item.id));
    event.dataTransfer.effectAllowed = "move";
    node.classList.add("dragged");
  });
  node.addEventListener("dragend", () => node.classList.remove("dragged"));
  node.addEventListener("dragover", (event) => {
    if (!event.dataTransfer.types.includes("application/x-ocr-item")) return;
    event.preventDefault();
    const dragged = queue.items.find((other) => rows.get(other.id)?.node.classList.contains("dragged"));
    if (!dragged || dragged === item) return;
    const frame = node.getBoundingClientRect();
    const [from, to] = [queue.items.indexOf(dragged), queue.items.indexOf(item)];
    if (from < to ? event.clientY > frame.top + frame.height / 2 : event.clientY < frame.top + frame.height / 2) queue.move(dragged, to - from);
  });
  node.addEventListener("drop", (event) => {
    if (event.dataTransfer.types.includes("application/x-ocr-item")) event.preventDefault();
  });
  return { node, open, thumb, name, meta, bar, state, tools, painted: "" };
}

function move(item, by) {
  queue.move(item, by);
  announce(t("moved", { name: item.name, n: queue.items.indexOf(item) + 1, count: queue.items.length }));
}

function paintRow(item) {
  const parts = rows.get(item.id);
  if (!parts) return;
  parts.node.className = `file ${item.state}${item === chosen ? " chosen" : ""}${parts.node.classList.contains("dragged") ? " dragged" : ""}`;
  if (item === chosen) parts.open.setAttribute("aria-current", "true");
  else parts.open.removeAttribute("aria-current");
  const meta = metaOf(item);
  if (parts.meta.textContent !== meta) parts.meta.textContent = meta;
  parts.bar.style.width = item.state === "reading" ? `${Math.max(3, 100 * item.fraction)}%` : "";
  const preview = item.previews.get(1);
  if (preview && parts.thumb.firstChild?.src !== preview.url) parts.thumb.replaceChildren(h("img", { src: preview.url, alt: "", draggable: "false" }));
  parts.thumb.classList.toggle("waits", !preview && !item.previewErrors.size);
  const look = [item.state, document.documentElement.lang, queue.items.length > 1].join();
  if (look === parts.painted) return;
  parts.painted = look;
  parts.state.replaceChildren(...(item.state === "done" ? [icon("check")] : item.state === "error" ? [icon("alert")] : []));
  const working = ACTIVE.has(item.state);
  const focused = parts.tools.contains(document.activeElement);
  parts.tools.replaceChildren(
    ...(queue.items.length > 1
      ? [iconButton("up", t("moveUp", { name: item.name }), () => move(item, -1), { class: "quiet icon-only order" }), iconButton("down", t("moveDown", { name: item.name }), () => move(item, 1), { class: "quiet icon-only order" })]
      : []),
    ...(item.state === "error" && item.error.code !== "too_large_here" ? [iconButton("again", t("retryFile", { name: item.name }), () => queue.start([item]))] : []),
    working ? iconButton("close", t("cancelFile", { name: item.name }), () => queue.cancel(item)) : iconButton("close", t("remove", { name: item.name }), () => remove(item)),
  );
  if (focused) parts.open.focus();
}

function paintList() {
  document.body.dataset.view = isWork() ? "work" : "empty";
  $("#welcome").hidden = isWork();
  for (const [id, parts] of rows) {
    if (queue.items.some((item) => item.id === id)) continue;
    parts.node.remove();
    rows.delete(id);
  }
  const list = $("#files");
  queue.items.forEach((item, index) => {
    if (!rows.has(item.id)) rows.set(item.id, row(item));
    const { node } = rows.get(item.id);
    if (list.children[index] !== node) list.insertBefore(node, list.children[index] ?? null);
    paintRow(item);
  });
  $("#file-count").textContent = isWork() ? String(queue.items.length) : "";
  paintOverall();
}

function paintOverall() {
  const items = queue.items.filter((item) => item.state !== "cancelled");
  const working = items.filter((item) => ACTIVE.has(item.state));
  const box = $("#overall");
  box.hidden = !working.length || items.length < 2;
  if (box.hidden) return;
  const part = [...working, ...items.filter((item) => item.state === "done")];
  const done = part.reduce((sum, item) => sum + item.fraction, 0) / part.length;
  $("#overall-bar").style.width = `${100 * done}%`;
  $("#overall-bar").setAttribute("aria-valuenow", String(Math.round(100 * done)));
  $("#overall-text").textContent = t("overallText", { n: part.length - working.length, count: part.length });
}

// -- the chosen file

function paintPanes() {
  const item = chosen;
  if (!item) {
    viewer.show(null);
    result.show(null);
    return;
  }
  const preview = item.previews.get(item.page) ?? null;
  const failed = item.previewErrors.get(item.page);
  if (!preview && !failed) {
    queue.preview(item, item.page);
    queue.first(item, item.page);
  }
  viewer.show(preview, { note: failed ? t("noPicture") : "", busy: !preview && !failed, alt: t("pageAlt", { page: item.page, name: item.name }) });
  viewer.setPager(item.page, item.count);
  const read = item.state === "done" ? item.read : null;
  const painted = [item.id, item.page, item.state, item.resultNumber, Boolean(preview)].join();
  if (painted !== paintPanes.last) {
    paintPanes.last = painted;
    viewer.setBlocks(read?.blocks ?? [], { found: item.result?.mode === "find" });
    unlight();
  }
  const reading = item.state === "reading" && !/^loading/.test(item.progress.message ?? "") && item.progress;
  const at = reading ? item.progress.done : 0;
  viewer.setScan(reading && (item.progress.total === 1 || item.page === pageBeingRead(item)) ? at - Math.floor(Math.min(at, item.progress.total - 0.001)) : null);
  result.show(item, preview);
}

/** The page under the light, where all pages are read in order. */
const pageBeingRead = (item) => (item.pages ? item.page : Math.min(item.count || 1, Math.floor(item.progress.done) + 1));

function turn(item, page) {
  if (page < 1 || page > item.count) return;
  item.page = page;
  item.followed = false;
  paintPanes();
  announce(t("pageOf", { page, count: item.count }));
}

let results = 0;

queue.addEventListener("list", () => {
  paintList();
  paintRead();
});
queue.addEventListener("item", ({ detail: item }) => {
  if (item.state === "done" && item.result && item.seen !== item.result) {
    item.seen = item.result;
    if (item.followed) item.page = item.result.pages[0].page;
    item.followed = false;
    item.resultNumber = ++results;
    announce(t("doneFile", { name: item.name }));
    for (const page of item.result.pages) item.previewErrors.delete(page.page);
  } else if (item.state === "error" && item.said !== item.error) {
    item.said = item.error;
    announce(`${item.name}: ${titleOf(item.error)}`);
  }
  // The page that is read is the page that is shown.
  if (item.state === "reading" && item === chosen && item.progress.total > 1 && !item.pages) {
    const page = pageBeingRead(item);
    if (page !== item.page) {
      item.page = page;
      item.followed = true;
    }
  }
  // What it means for the engine is shown at once, not at the next look.
  if (item.toldState !== item.state) gpu?.wake?.();
  item.toldState = item.state;
  paintRow(item);
  paintOverall();
  paintRead();
  if (item === chosen) paintPanes();
});
queue.addEventListener("preview", ({ detail: item }) => {
  paintRow(item);
  if (item !== chosen) return;
  paintPanes();
  paintOptions(modeOf(mode));
});
// Seconds until a request is sent again.
setInterval(() => {
  for (const item of queue.items) {
    if (item.state !== "later") continue;
    paintRow(item);
    if (item === chosen) paintPanes();
  }
}, TICK_MS);

viewer.addEventListener("page", ({ detail }) => chosen && turn(chosen, chosen.page + detail));
viewer.addEventListener("sharper", () => chosen && queue.preview(chosen, chosen.page, SHARP_SIDE));
result.addEventListener("go", ({ detail }) => turn(chosen, detail));
result.addEventListener("retry", ({ detail }) => queue.start([detail]));
result.addEventListener("cancel", ({ detail }) => queue.cancel(detail));
result.doneItems = () => queue.items.filter((item) => item.state === "done" && item.result);

// -- ways in

async function sample() {
  const response = await fetch("/static/sample.png");
  addFiles([new File([await response.blob()], "stations.png", { type: "image/png" })]);
}

const commands = {
  choose: () => $("#picker").click(),
  sample,
  clear: () => {
    for (const item of [...queue.items]) queue.remove(item);
    choose(null);
    $("#welcome [data-do=choose]").focus();
  },
  "cancel-all": () => queue.items.forEach((item) => queue.cancel(item)),
};

function listen() {
  document.addEventListener("click", (event) => commands[event.target.closest("[data-do]")?.dataset.do]?.());
  $("#picker").addEventListener("change", (event) => {
    addFiles(event.target.files);
    event.target.value = "";
  });
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    const time = new Date().toTimeString().slice(0, 8).replaceAll(":", ".");
    addFiles(files.map((file) => (file.name === "image.png" ? new File([file], `${t("pastedName")} ${time}.png`, { type: file.type }) : file)));
  });

  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  let depth = 0;
  const veil = (shown) => document.body.classList.toggle("dropping", shown);
  document.addEventListener("dragenter", (event) => {
    if (!carriesFiles(event)) return;
    depth += 1;
    veil(true);
  });
  document.addEventListener("dragleave", (event) => {
    if (carriesFiles(event) && --depth <= 0) veil(false);
  });
  document.addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    depth = 0;
    veil(false);
    if (!carriesFiles(event)) return;
    event.preventDefault();
    addFiles(event.dataTransfer.files);
  });

  $("#controls").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === "Enter" && isWork() && !event.target.closest("dialog")) {
      event.preventDefault();
      submit();
    }
  });
  $("#term").addEventListener("input", (event) => {
    terms[modeOf(mode).needs] = event.target.value;
    $("#term-field").classList.remove("missing");
  });
  $("#pages").addEventListener("input", (event) => {
    if (chosen) chosen.pages = event.target.value;
  });
}

// -- theme, token, connection

function startTheme() {
  const button = $("#theme");
  const paint = () => {
    const theme = document.documentElement.dataset.theme ?? "system";
    const text = t("theme", { theme: t(`theme.${theme}`) });
    button.replaceChildren(icon(theme));
    button.setAttribute("aria-label", text);
    button.title = text;
    return text;
  };
  button.addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? "system") + 1) % THEMES.length];
    if (next === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    memory.set("theme", next === "system" ? null : next);
    announce(paint());
  });
  paint();
  return paint;
}

function startToken() {
  const dialog = $("#token-dialog");
  const input = $("#token");
  let asked = null; // the question that is open: everybody who asks meanwhile gets its answer
  const ask = (again) => {
    if (asked) return asked.promise;
    $("#token-wrong").hidden = !again;
    $("#token-button").hidden = false;
    input.value = "";
    dialog.showModal();
    input.focus();
    let settle;
    const promise = new Promise((resolve) => (settle = resolve));
    asked = { promise, settle, given: false };
    return promise;
  };
  token.onAsk(ask);
  dialog.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!input.value.trim()) return;
    token.set(input.value.trim(), $("#token-remember").checked);
    asked.given = true;
    dialog.close();
  });
  // This event comes late; the question is answered here alone, so that it never meets the next one.
  dialog.addEventListener("close", () => {
    const { settle, given } = asked;
    asked = null;
    settle(given);
  });
  commands["token-cancel"] = () => dialog.close();
  $("#token-button").addEventListener("click", async () => {
    if (!(await ask(false))) return;
    gpu.wake?.();
    await loadModes();
    queue.resume();
  });
}

let bannerTimer = 0;
function startConnection() {
  const banner = $("#banner");
  let wasGone = false;
  connection.addEventListener("gone", () => {
    wasGone = true;
    clearTimeout(bannerTimer);
    banner.hidden = false;
    banner.className = "banner bad";
    banner.replaceChildren(icon("alert"), h("span", {}, h("b", {}, t("gone")), " ", t("gone.remedy")));
  });
  connection.addEventListener("back", () => {
    if (!catalogue.modes.length) loadModes();
    if (!wasGone) return;
    wasGone = false;
    banner.className = "banner good";
    banner.replaceChildren(icon("check"), h("span", {}, t("back")));
    bannerTimer = setTimeout(() => (banner.hidden = true), 4000);
  });
}

async function start() {
  let paintTheme = () => {};
  await startLanguage(() => {
    paintTheme();
    paintModes();
    viewer.relabel();
    result.build();
    result.shown = "";
    gpu.build();
    for (const parts of rows.values()) parts.painted = "";
    paintList();
    paintPanes();
    paintRead();
  });
  paintTheme = startTheme();
  viewer.relabel();
  result.build();
  startToken();
  startConnection();
  gpu = new GpuPanel();
  gpu.hurried = () => queue.items.some((item) => ACTIVE.has(item.state));
  listen();
  paintList();
  paintRead();
  await loadModes();
  document.documentElement.dataset.ready = "";
  gpu.watch();
}

start();
