// Puts the page together: files come in, the queue reads them, the viewer and the text show what was read.

import { api, connection, token } from "./api.js";
import { Archive } from "./archive.js";
import { hasCamera, hasScreen, named, screenshot, startCamera } from "./capture.js";
import { $, announce, h, icon, iconButton, memory, toast } from "./dom.js";
import { titleOf } from "./errors.js";
import { dropped } from "./folders.js";
import { GpuPanel } from "./gpu.js";
import { has, seconds, setEngineTitles, size, startLanguage, t } from "./i18n.js";
import { Queue, THUMB_SIDE } from "./queue.js";
import { ResultPane } from "./result.js";
import { pagesWith, pattern, ranges } from "./search.js";
import { inWords } from "./server.js";
import { ACTIVE, doing, lacks, sent } from "./states.js";
import { together } from "./together.js";
import { SHARP_SIDE, Viewer } from "./viewer.js";
import { mark } from "./words.js";

const TICK_MS = 1000;
const THEMES = ["system", "light", "dark"];
const NEEDS = { find_term: "field.find_term", custom_prompt: "field.custom_prompt" };

let catalogue = { modes: [], resolutions: [], limits: {}, auth: false, exports: [] };
let locked = false; // whether the server wants a token that nobody has given
let mode = "document";
let chosen = null;
let openCamera = () => {};
const terms = { find_term: "", custom_prompt: "" };

const queue = new Queue((item) => {
  const spec = modeOf(mode);
  item.asked = { mode, find_term: terms.find_term.trim(), markdown: spec?.markdown ?? false };
  return {
    mode,
    find_term: spec?.needs === "find_term" ? asTerm(terms.find_term.trim()) : "",
    custom_prompt: spec?.needs === "custom_prompt" ? terms.custom_prompt.trim() : "",
    pages: item.pages.trim(),
    resolution: $("#resolution").value || "auto",
    text_layer: $("#text-layer").value,
    boxes: spec?.locates ? "words" : "none",
  };
});

/** The search term for the server: the words themselves, or a pattern between slashes. */
function asTerm(words) {
  const [whole, regex] = [$("#term-whole").checked, $("#term-regex").checked];
  if (!words || !(whole || regex)) return words;
  const source = regex ? words : words.replace(/[.*+?^${}()|[\]\\]/g, "\\$&").replace(/\s+/g, "\\s+");
  const bare = source.replace(/\\.|\//gs, (found) => (found === "/" ? "\\/" : found)); // a slash of its own would end the pattern
  return whole ? `/(?<!\\w)(?:${bare})(?!\\w)/` : `/${bare}/`;
}

const archive = new Archive();
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
    setEngineTitles(catalogue.engine_titles);
    locked = false;
  } catch (error) {
    locked = error.code === "unauthorized";
    if (locked) paintLocked();
    else if (error.code !== "unreachable") toast(titleOf(error), "bad");
    return;
  }
  const remembered = memory.get("mode");
  if (!modeOf(mode)?.available || remembered) mode = modeOf(remembered)?.available ? remembered : (catalogue.modes.find((each) => each.available)?.name ?? mode);
  $("#token-button").hidden = !catalogue.auth;
  $("#version").textContent = `deepseek-ocr-mcp ${catalogue.version ?? ""}`;
  paintModes();
}

/** Stands in the place of the modes while the token is missing: without it, the server does not list them. */
function paintLocked() {
  $("#token-button").hidden = false;
  $("#mode-list").replaceChildren(h("p", { class: "locked" }, icon("key"), h("span", {}, t("token.title"), "."), h("button", { type: "button", class: "link", onclick: () => $("#token-button").click() }, t("token.enter"))));
}

const modeText = (kind, spec) => (has(`mode.${spec.name}.${kind}`) ? t(`mode.${spec.name}.${kind}`) : kind === "name" ? spec.name : spec.purpose);

function paintModes() {
  if (locked) return paintLocked();
  const focused = document.activeElement?.name === "mode" ? document.activeElement.value : null;
  $("#mode-list").replaceChildren(
    ...catalogue.modes.map((spec) => {
      const input = h("input", { type: "radio", name: "mode", value: spec.name, class: "sr", "aria-describedby": "mode-purpose", checked: spec.name === mode, onchange: () => chooseMode(spec) });
      input.setAttribute("aria-disabled", String(!spec.available));
      const label = h("label", { class: `mode ${spec.available ? "" : "off"}`, title: spec.available ? modeText("purpose", spec) : inWords(spec.why_not) || spec.why_not }, input, icon(spec.name), h("span", {}, modeText("name", spec)));
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
    // The reader may select a mode that is off, to learn the reason; the mode in force stays.
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
      : [h("b", {}, t("mode.off", { mode: modeText("name", spec) })), " ", inWords(spec.why_not) || h("span", { lang: "en" }, spec.why_not)]),
  );
  const current = modeOf(mode);
  $("#term-field").hidden = !current?.needs;
  $("#term-how").hidden = current?.needs !== "find_term";
  purpose.hidden = spec === current && Boolean(current?.needs);
  if (current?.needs) {
    $("#term-label").textContent = t(NEEDS[current.needs]);
    $("#term").placeholder = t(`${NEEDS[current.needs]}.example`);
    $("#term").value = terms[current.needs];
  }
  $("#pages-field").hidden = !(chosen && chosen.count > 1);
  $("#layer-field").hidden = !queue.items.some((item) => /\.pdf$/i.test(item.name) || item.file.type === "application/pdf");
  $("#pages").placeholder = t("field.pages.all");
  if (document.activeElement !== $("#pages")) $("#pages").value = chosen?.pages ?? "";
}

/** The files that the button reads: the files that have no text yet; if every file has one, all files. */
function toRead() {
  const idle = queue.items.filter((item) => !ACTIVE.has(item.state) && !item.unsendable);
  const open = idle.filter((item) => !["done", "error"].includes(item.state));
  return open.length ? open : idle;
}

function paintRead() {
  const items = toRead();
  const again = items.length > 0 && items.every((item) => ["done", "error"].includes(item.state));
  $("#read-label").textContent = again ? (items.length > 1 ? t("readAgain.many", { n: items.length }) : t("readAgain")) : items.length > 1 ? t("read.many", { n: items.length }) : t("read.one");
  // Not `disabled`: that would take the keyboard's focus away.
  $("#read").setAttribute("aria-disabled", String(items.length === 0));
  // Reading again is possible, but not the next step: the button is plain.
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
  token.wanted();
  queue.start(items);
  if (matchMedia("(max-width: 680px)").matches) $(".panes").scrollIntoView({ behavior: "smooth" });
  if (!ACTIVE.has(chosen?.state)) choose(items[0]);
}

// -- files

function addFiles(files, skipped = 0) {
  const list = [...files];
  if (skipped) toast(t("skipped", { n: skipped }));
  if (!list.length) return;
  token.wanted();
  const before = queue.items.length;
  const added = queue.add(list, catalogue.limits?.max_file_mb);
  if (!before || !chosen || !ACTIVE.has(chosen.state)) choose(added[0]);
  for (const item of added) keep(item);
  announce(t("added", { n: added.length }));
  if (!before) $("#read").focus({ preventScroll: true });
}

/** Files that were cleared come back with their results. */
function bringBack(items) {
  queue.restore(items);
  for (const item of items) {
    item.written = null;
    keep(item);
    queue.preview(item, 1);
  }
  choose(items[0]);
}

/** Stores an item and its position in the list. */
const keep = (item, page = null) => !item.unsendable && queue.items.includes(item) && archive.keep(item, () => queue.items.indexOf(item), page);

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
  archive.forget(item);
  announce(t("removed", { name: item.name }));
  if (chosen === item) choose(queue.items[Math.min(at, queue.items.length - 1)] ?? null);
  ($(`#files [aria-current=true]`) ?? $("[data-do=choose]")).focus();
}

const metaOf = (item) => {
  const hits = wanted && item.state === "done" ? pagesWith(item, wanted).reduce((sum, [, n]) => sum + n, 0) : 0;
  if (hits) return t("search.hits", { n: hits });
  if (ACTIVE.has(item.state)) return doing(item);
  if (item.state === "error") return titleOf(item.error);
  if (item.locked) return t("error.password_needed");
  if (item.state === "cancelled") return t("state.cancelled");
  if (item.uploading && item.sent < item.file.size) return sent(item);
  const facts = [item.count > 1 && t("pages.n", { n: item.count }), size(item.file.size)];
  if (item.state === "done") {
    const unread = item.result.pages.filter((page) => page.finish === "failed").length;
    if (unread) facts.unshift(t("unreadPages", { n: unread }));
    else if (lacks(item.result)) facts.unshift(t("lacks"));
    if (item.result.timing.total_s > 0) facts.push(t("readIn", { s: seconds(Math.max(0.1, item.result.timing.infer_s)) }));
  }
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
  for (const each of queue.items) keep(each);
  announce(t("moved", { name: item.name, n: queue.items.indexOf(item) + 1, count: queue.items.length }));
}

function paintRow(item) {
  const parts = rows.get(item.id);
  if (!parts) return;
  const lacking = item.state === "done" && lacks(item.result);
  parts.node.className = `file ${item.state}${lacking ? " lacking" : ""}${item === chosen ? " chosen" : ""}${parts.node.classList.contains("dragged") ? " dragged" : ""}`;
  if (item === chosen) parts.open.setAttribute("aria-current", "true");
  else parts.open.removeAttribute("aria-current");
  const meta = metaOf(item);
  if (parts.meta.textContent !== meta) parts.meta.textContent = meta;
  const moving = item.state === "reading" || (item.state === "sending" && item.sent > 0);
  parts.bar.style.width = moving ? `${Math.max(3, 100 * item.fraction)}%` : "";
  parts.node.classList.toggle("moving", moving);
  const preview = item.previews.get(1);
  if (preview && parts.thumb.firstChild?.src !== preview.url) parts.thumb.replaceChildren(h("img", { src: preview.url, alt: "", draggable: "false" }));
  parts.thumb.classList.toggle("waits", !preview && !item.previewErrors.size);
  const look = [item.state, lacking, document.documentElement.lang, queue.items.length > 1].join();
  if (look === parts.painted) return;
  parts.painted = look;
  parts.state.replaceChildren(...(item.state === "error" || lacking ? [icon("alert")] : item.state === "done" ? [icon("check")] : []));
  const working = ACTIVE.has(item.state);
  const focused = parts.tools.contains(document.activeElement);
  parts.tools.replaceChildren(
    ...(queue.items.length > 1
      ? [iconButton("up", t("moveUp", { name: item.name }), () => move(item, -1), { class: "quiet icon-only order" }), iconButton("down", t("moveDown", { name: item.name }), () => move(item, 1), { class: "quiet icon-only order" })]
      : []),
    ...((item.state === "error" && !item.unsendable) || (item.state === "done" && queue.items.length > 1) ? [iconButton("again", t("retryFile", { name: item.name }), () => (token.wanted(), queue.start([item])))] : []),
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
  const { read } = item;
  viewer.show(preview, { note: item.locked ? t("error.password_needed") : failed ? t("noPicture") : "", busy: !preview && !failed, alt: t("pageAlt", { page: item.page, name: item.name }), turned: item.turns.get(item.page) ?? read?.turn ?? 0 });
  viewer.setPager(item.page, item.count);
  const unread = new Set(item.answer?.pages.filter((page) => page.finish === "failed").map((page) => page.page));
  viewer.setStrip(item.count, item.page, (page) => (item.thumbs.get(page) ?? item.previews.get(page))?.url ?? "", (page) => unread.has(page) || item.previewErrors.has(page));
  const painted = [item.id, item.page, Boolean(read), item.state, item.resultNumber, Boolean(preview)].join();
  if (painted !== paintPanes.last) {
    paintPanes.last = painted;
    viewer.setBlocks(read?.blocks ?? [], { found: item.answer?.mode === "find" });
    unlight();
  }
  const reading = item.state === "reading" && !/^loading/.test(item.progress.message ?? "") && item.progress;
  const at = reading && !read ? item.progress.done : 0;
  viewer.setScan(reading && !read && (item.progress.total === 1 || item.page === pageBeingRead(item)) ? at - Math.floor(Math.min(at, item.progress.total - 0.001)) : null);
  result.show(item, preview);
}

/** The page that is being read now. */
const pageBeingRead = (item) => (item.pages ? item.page : Math.min(item.count || 1, Math.floor(item.progress.done) + 1));

function turn(item, page) {
  if (page < 1 || page > item.count) return;
  item.page = page;
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
    item.resultNumber = ++results;
    announce(t(lacks(item.result) ? "doneFile.lacks" : "doneFile", { name: item.name }));
    for (const page of item.result.pages) item.previewErrors.delete(page.page);
    keep(item);
  } else if (item.state === "error" && item.said !== item.error) {
    item.said = item.error;
    announce(`${item.name}: ${titleOf(item.error)}`);
  }
  // The panel shows the engine's new state at once, not at the next poll.
  if (item.toldState !== item.state) {
    gpu?.wake?.();
    paintRead();
  }
  item.toldState = item.state;
  paintRow(item);
  paintOverall();
  if (item === chosen) paintPanes();
});
queue.addEventListener("page", ({ detail: item }) => {
  if (item !== chosen) return;
  // The first page that arrives is shown. After that, only the reader turns pages.
  if (item.partial.pages.length === 1 && !item.read) item.page = item.partial.pages[0].page;
  paintPanes();
});
queue.addEventListener("preview", ({ detail: item }) => {
  paintRow(item);
  if (item.kept !== item.previews.get(1)) {
    item.kept = item.previews.get(1);
    keep(item);
  }
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
viewer.addEventListener("turned", ({ detail }) => chosen && chosen.turns.set(chosen.page, detail));
viewer.addEventListener("thumb", ({ detail }) => chosen && !chosen.previews.has(detail) && queue.preview(chosen, detail, THUMB_SIDE));
result.addEventListener("go", ({ detail }) => turn(chosen, detail));
result.addEventListener("retry", ({ detail }) => (token.wanted(), queue.start([detail])));
result.addEventListener("edited", ({ detail }) => keep(detail, detail.read));
result.formats = () => catalogue.exports ?? [];
result.withDocument = (item, use) => queue.withDocument(item, use);
result.addEventListener("unlock", async ({ detail: { item, password, wrong } }) => {
  token.wanted();
  try {
    await queue.unlock(item, password);
  } catch (error) {
    wrong(error);
  }
});
result.addEventListener("cancel", ({ detail }) => queue.cancel(detail));
result.doneItems = () => queue.items.filter((item) => item.state === "done" && item.result);

// -- finding in all that was read

let wanted = null;

function search() {
  const term = $("#search").value;
  wanted = pattern(term, { whole: $("#search-whole").checked, regex: $("#search-regex").checked });
  $("#search").classList.toggle("wrong", Boolean(term.trim()) && !wanted);
  const files = wanted ? queue.items.map((item) => pagesWith(item, wanted)).filter((pages) => pages.length) : [];
  const n = files.flat().reduce((sum, [, hits]) => sum + hits, 0);
  $("#search-result").textContent = !term.trim() ? "" : !wanted ? t("search.noPattern") : n ? t("search.found", { hits: t("search.hits", { n }), files: t("search.files", { n: files.length }) }) : t("search.none");
  for (const item of queue.items) paintRow(item);
  paintFound();
}

/** Marks the hits of the search in the text that is shown. */
function paintFound() {
  const view = $("#text-view");
  mark("found", wanted && view ? ranges(view, wanted) : []);
}

/** Goes to the next page with a hit, in this file or another. */
function toNext(step) {
  if (!wanted) return;
  const places = queue.items.flatMap((item) => pagesWith(item, wanted).map(([page]) => ({ item, page })));
  if (!places.length) return;
  const here = places.findIndex(({ item, page }) => item === chosen && page === chosen.page);
  const there = places.at((here < 0 ? (step > 0 ? 0 : -1) : here + step) % places.length);
  if (there.item !== chosen) choose(there.item);
  turn(there.item, there.page);
}

function startSearch() {
  let timer = 0;
  $("#search").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, 150); // ms
  });
  for (const id of ["#search-whole", "#search-regex"]) $(id).addEventListener("change", search);
  $("#search").addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      event.preventDefault();
      toNext(event.shiftKey ? -1 : 1);
    } else if (event.key === "Escape" && $("#search").value) {
      event.preventDefault();
      $("#search").value = "";
      search();
    }
  });
  new MutationObserver(() => wanted && paintFound()).observe($("#text-pane"), { childList: true, subtree: true });
}

// -- ways in

async function sample() {
  const response = await fetch("/static/sample.png");
  addFiles([new File([await response.blob()], "stations.png", { type: "image/png" })]);
}

const commands = {
  choose: () => $("#picker").click(),
  sample,
  camera: () => (hasCamera() ? openCamera() : $("#camera").click()),
  screenshot: async () => {
    const file = await screenshot();
    if (file) addFiles([file]);
  },
  clear: () => {
    const before = [...queue.items];
    for (const item of before) {
      queue.remove(item);
      archive.forget(item); // one by one: another tab may keep files of its own
    }
    choose(null);
    $("#welcome [data-do=choose]").focus();
    if (before.some((item) => item.result)) toast(t("cleared"), "", { text: t("undo"), act: () => bringBack(before) });
  },
  "cancel-all": () => queue.items.forEach((item) => queue.cancel(item)),
};

function listen() {
  document.addEventListener("click", (event) => commands[event.target.closest("[data-do]")?.dataset.do]?.());
  for (const picker of ["#picker", "#camera"]) {
    $(picker).addEventListener("change", (event) => {
      addFiles(event.target.files);
      event.target.value = "";
    });
  }
  // Where there may be a camera, and where the browser can show the page a screen.
  for (const button of document.querySelectorAll("[data-do=camera]")) button.hidden = !hasCamera() && !matchMedia("(pointer: coarse)").matches;
  for (const button of document.querySelectorAll("[data-do=screenshot]")) button.hidden = !hasScreen();
  openCamera = startCamera((file) => addFiles([file]));
  $(".brand").addEventListener("click", (event) => {
    // The logo leads to the start only while there are no files: nobody who presses it wants to lose files.
    event.preventDefault();
    if (isWork()) $("#main").focus();
  });
  addEventListener("beforeunload", (event) => {
    if (queue.items.some((item) => ACTIVE.has(item.state))) event.preventDefault();
  });
  $("#keep").checked = archive.on;
  $("#keep").addEventListener("change", async (event) => {
    await archive.turn(event.target.checked);
    for (const item of queue.items) {
      item.written = null;
      keep(item);
    }
    announce(t(event.target.checked ? "keep.on" : "keep.off"));
  });
  archive.addEventListener("full", () => toast(t("keep.full"), "bad"));
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    addFiles(files.map((file) => (file.name === "image.png" ? new File([file], named("pastedName", "image/png"), { type: file.type }) : file)));
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
    dropped(event.dataTransfer, addFiles);
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
    if (!given) return;
    gpu?.wake?.();
    if (locked) loadModes();
    queue.resume();
  });
  commands["token-cancel"] = () => dialog.close();
  $("#token-button").addEventListener("click", async () => {
    token.wanted();
    if (await ask(false)) loadModes();
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
    if (!catalogue.modes.length && !locked) loadModes();
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
  startSearch();
  paintList();
  paintRead();
  const kept = await archive.items();
  if (kept.length) {
    for (const item of kept) {
      item.seen = item.result;
      item.resultNumber = ++results;
      item.kept = item.previews.get(1);
    }
    queue.restore(kept);
    choose(kept[0]);
    for (const item of kept) if (!item.previews.has(1) && item.state !== "error") queue.preview(item, 1);
  }
  await loadModes();
  result.repaintFacts(); // of a result of an earlier visit, which was shown before the engines' names were known
  document.documentElement.dataset.ready = "";
  gpu.watch();
}

start();
