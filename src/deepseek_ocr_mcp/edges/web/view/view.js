// The app: what the agent had read, page by page, as picture and text. It is told by its host what was asked and
// answered, and asks the server, through the host, for pictures of pages and for pages that are not read yet.

import { $, announce, h, icon, iconButton, toast } from "../js/dom.js";
import { remedyOf, titleOf } from "../js/errors.js";
import { language, setEngineTitles, speak, spoken, t } from "../js/i18n.js";
import { TextPane } from "../js/text.js";
import { together } from "../js/together.js";
import { PREVIEW_SIDE, SHARP_SIDE, Viewer } from "../js/viewer.js";
import { Host } from "./host.js";

const KEPT_PICTURES = 24; // of about 300 kB
const RESULT = "deepseek-ocr/result"; // in _meta of an answer: the name that ocr_page knows it by
const MARKDOWN = "deepseek-ocr/markdown"; // in _meta of an answer: whether its text is Markdown
const ERROR = "deepseek-ocr/error";
const ONCE = ["annotate"]; // of the agent's arguments: not when something is read again

const host = new Host();

const item = {
  id: 1,
  state: "waiting",
  /** The agent's arguments; null until they are all there. */
  asked: null,
  name: "",
  page: 1,
  count: 0,
  result: null,
  resultNumber: 0,
  error: null,
  progress: { done: 0, total: 1, message: "" },
  get read() {
    return this.result?.pages.find((page) => page.page === this.page);
  },
};
/** The name of the answer that has this page. */
const names = new Map();
let lastName = "";
let nextPages = "";
/** The pages that are being read because somebody pressed a button; "": none. */
let readingOn = "";
const pictures = new Map();
const withoutPicture = new Map();
const wanted = new Set();

class Text extends TextPane {
  moreActions() {
    this.full = iconButton("expand", "", () => host.display(inFull() ? "inline" : "fullscreen").catch(() => {}));
    return this.full;
  }

  canRetry() {
    return canAsk();
  }

  unread(shown) {
    const read = canAsk() && !readingOn && h("button", { type: "button", class: "primary small", onclick: () => readOn(String(shown.page)) }, icon("document"), h("span", {}, t("app.readPage")));
    return h("div", { class: "calm" }, h("p", {}, t("pageNotRead", { page: shown.page })), read);
  }

  /** What is not read yet, and the button for it. */
  paintMore() {
    this.more ??= h("div", { class: "more" });
    if (this.facts.previousElementSibling !== this.more) this.facts.before(this.more);
    this.facts.hidden ||= !item.count;
    const n = item.result?.pages.filter((page) => !page.told).length ?? 0;
    const turns = alone() && n > 1;
    this.more.hidden = item.state !== "done" || !item.count || (!nextPages && !readingOn && !turns);
    if (this.more.hidden) return;
    const keep = this.more.contains(document.activeElement);
    this.more.replaceChildren(...[
      turns && h("div", { class: "pager" },
        iconButton("left", t("pagePrevious"), () => step(-1), { disabled: item.page === item.result.pages[0].page }),
        h("span", { class: "page-number" }, t("pageOf", { page: item.page, count: item.count })),
        iconButton("right", t("pageNext"), () => step(1), { disabled: item.page === item.result.pages.at(-1).page })),
      h("p", {}, !nextPages && !readingOn ? "" : readingOn ? t("app.readingOn", named(readingOn)) : t("app.left", { n, count: item.count })),
      readingOn
        ? h("div", { class: "track" }, h("div", { class: "fill unknown", role: "progressbar", "aria-label": t("progress") }))
        : canAsk() && nextPages && h("button", { type: "button", class: item.read ? "primary small" : "plain small", onclick: () => readOn(nextPages, true) }, h("span", {}, t("app.readOn", named(nextPages)))),
    ].filter(Boolean));
    if (keep) $("#main").focus({ preventScroll: true }); // its button is gone: the keyboard stays here
  }

  paintFull() {
    this.full.hidden = !host.offers("fullscreen") && !inFull();
    const label = t(inFull() ? "app.shrink" : "app.expand");
    this.full.setAttribute("aria-label", label);
    this.full.title = label;
    this.full.replaceChildren(icon(inFull() ? "shrink" : "expand"));
  }
}

const viewer = new Viewer($("#page-pane"));
const text = new Text($("#text-pane"));
const unlight = together(viewer, text);

/** Page numbers for a sentence: "4" is one, "4-8" and "1, 3" are many. */
const named = (pages) => ({ pages: pages.replaceAll(",", ", ").replaceAll("-", "–"), n: /^\d+$/.test(pages) ? 1 : 2 });
const inFull = () => host.context.displayMode === "fullscreen";
/** The agent's arguments, to read something again or more. */
const given = () => Object.fromEntries(Object.entries(item.asked).filter(([name]) => !ONCE.includes(name)));
const canAsk = () => host.callsTools && Boolean(item.asked?.image);
/** Whether there are, and will be, no pictures. */
const alone = () => (item.state === "done" ? !lastName || !host.callsTools : item.state !== "waiting" && item.state !== "reading");

// -- what was asked and answered

/** The name of the file, if what the agent gave is a path or an address. */
function nameOf(image) {
  if (typeof image !== "string" || image.length > 4096 || /^data:/i.test(image)) return "";
  const last = image.replace(/[?#].*$/, "").split(/[\\/]/).pop();
  try {
    return last.includes(".") ? decodeURIComponent(last) : "";
  } catch {
    return last;
  }
}

host.addEventListener("partial", ({ detail }) => {
  item.name = nameOf(detail.image);
  paint();
});
host.addEventListener("input", ({ detail }) => {
  item.asked = detail;
  item.name = nameOf(detail.image);
  if (item.state === "waiting") item.state = "reading";
  paint();
});
host.addEventListener("result", ({ detail }) => {
  forget();
  take(detail);
});
host.addEventListener("cancelled", () => {
  item.state = "cancelled";
  announce(t("state.cancelled"));
  paint();
});

const wordsOf = (answer) => (answer.content ?? []).filter((block) => block.type === "text").map((block) => block.text).join("\n\n");

const errorOf = (answer) => answer._meta?.[ERROR] ?? { code: "", message: wordsOf(answer) || t("error.internal"), remedy: " " };

/** Nothing is read: another answer comes. */
function forget() {
  item.result = null;
  names.clear();
  pictures.clear();
  withoutPicture.clear();
  wanted.clear();
  lastName = nextPages = "";
}

function take(answer) {
  if (answer.isError) {
    item.state = "error";
    item.error = errorOf(answer);
    announce(titleOf(item.error));
  } else {
    item.state = "done";
    add(answer);
    item.page = item.result.pages.find((page) => names.has(page.page))?.page ?? item.result.pages[0].page;
    announce(t("doneFile", { name: item.name || t("title") }));
  }
  paint();
}

/** Adds the pages of an answer to those that are there. */
function add(answer) {
  const told = answer.structuredContent ?? {};
  const name = answer._meta?.[RESULT] ?? "";
  const pages = new Map((item.result?.pages ?? []).filter((page) => !page.told).map((page) => [page.page, page]));
  for (const page of told.pages ?? []) {
    if (!pages.get(page.page)?.whole) pages.set(page.page, { finish: "stop", ...page });
    if (name) names.set(page.page, name);
  }
  lastName = name || lastName;
  item.count = told.page_count ?? item.count;
  nextPages = told.next_pages ?? "";
  if (!pages.size) {
    // A folder, or a document of which nothing is read yet: what the agent was told will do.
    pages.set(1, { page: 1, text: wordsOf(answer), blocks: [], finish: "stop", told: true });
  }
  const markdown = answer._meta?.[MARKDOWN] ?? false;
  item.result = { engine: "", model: "", device: "", mode: "document", markdown, timing: { load_s: 0, infer_s: 0 }, ...told };
  settle([...pages.values()]);
}

function settle(pages) {
  pages.sort((a, b) => a.page - b.page);
  item.result.pages = pages;
  item.result.text = pages.map((page) => page.text).filter(Boolean).join("\n\n");
  item.resultNumber += 1;
}

/** Has pages read that are not there yet. */
async function readOn(pages, further = false) {
  readingOn = pages;
  text.shown = "";
  paint();
  const next = nextPages;
  try {
    const answer = await host.callTool("ocr_image", { ...given(), pages });
    if (answer.isError) {
      const error = errorOf(answer);
      toast(`${titleOf(error)} ${remedyOf(error)}`.trim(), "bad");
    } else {
      const read = (answer.structuredContent?.pages ?? []).map((page) => page.page);
      if (read.length) {
        add(answer);
        item.page = read[0];
        announce(t("app.isRead", { n: read.length }));
      } else toast(wordsOf(answer), "bad"); // it is being read still
      if (!further) nextPages = next;
    }
  } catch (error) {
    toast(error.message, "bad");
  }
  readingOn = "";
  text.shown = "";
  paint();
}

/** The same call once more: it failed, it was stopped, or the server has put its result away. */
async function again() {
  item.state = "reading";
  item.error = null;
  forget();
  paint();
  try {
    take(await host.callTool("ocr_image", given()));
  } catch (error) {
    take({ isError: true, content: [{ type: "text", text: error.message }] });
  }
}

// -- pictures

async function draw(page, side) {
  const name = names.get(page) ?? lastName;
  const key = `${name}/${page}/${side}`;
  if (!name || !host.callsTools || wanted.has(key) || pictures.get(page)?.side >= side) return;
  wanted.add(key);
  try {
    const answer = await host.callTool("ocr_page", { result: name, page, side });
    if (answer.isError) throw answer;
    const { width, height, read } = answer.structuredContent ?? {};
    const picture = (answer.content ?? []).find((block) => block.type === "image" && /^image\/(png|jpeg)$/.test(block.mimeType));
    if (picture) {
      pictures.set(page, { url: `data:${picture.mimeType};base64,${picture.data}`, width, height, side, key: `${name}/${page}` });
      while (pictures.size > KEPT_PICTURES) {
        const old = [...pictures.keys()].find((other) => other !== item.page);
        pictures.delete(old);
        for (const known of wanted) if (known.split("/")[1] === String(old)) wanted.delete(known);
      }
    } else withoutPicture.set(page, true);
    // Its whole text, and its boxes even where the agent did not ask for them.
    const known = item.result?.pages.find((each) => each.page === page);
    if (read && known && !known.whole && names.get(page) === name) settle(item.result.pages.map((each) => (each === known ? { ...read, whole: true } : each)));
  } catch (problem) {
    if (!pictures.has(page)) withoutPicture.set(page, problem.isError ? "lost" : true);
  }
  if (page === item.page) paint();
}

// -- what is shown

let painted = "";

function paint() {
  const done = item.state === "done";
  const picture = (done && pictures.get(item.page)) || null;
  if (done && !picture && !withoutPicture.has(item.page)) draw(item.page, PREVIEW_SIDE);
  const busy = done ? wanted.size > 0 && !picture && !withoutPicture.has(item.page) : item.state === "waiting" || item.state === "reading";
  $("#main").dataset.only = alone() ? "text" : "both";
  viewer.show(picture, { busy, note: t(withoutPicture.get(item.page) === "lost" ? "app.lost" : "noPicture"), alt: t("pageAlt", { page: item.page, name: item.name || t("title") }) });
  if (withoutPicture.get(item.page) === "lost" && canAsk()) viewer.empty.append(h("button", { type: "button", class: "primary small", onclick: again }, icon("again"), h("span", {}, t("readAgain"))));
  viewer.setPager(item.page, alone() ? 0 : item.count);
  const read = done ? item.read : null;
  const now = [item.state, item.page, item.resultNumber, Boolean(picture)].join();
  if (now !== painted) {
    painted = now;
    viewer.setBlocks(read?.blocks ?? [], { found: item.result?.mode === "find" });
    unlight();
  }
  text.show({ ...item, read, caption: item.name, asked: item.asked ?? {} }, picture);
  text.paintMore();
  text.paintFull();
}

function turn(page) {
  if (page < 1 || page > item.count) return;
  item.page = page;
  paint();
  announce(t("pageOf", { page, count: item.count }));
}

/** From one page that was read to the next. */
function step(by) {
  const { pages } = item.result;
  turn(pages[pages.findIndex((page) => page.page === item.page) + by]?.page ?? item.page);
}

viewer.addEventListener("page", ({ detail }) => turn(item.page + detail));
viewer.addEventListener("sharper", () => draw(item.page, SHARP_SIDE));
text.addEventListener("go", ({ detail }) => turn(detail));
text.addEventListener("retry", again);

// An address in a text is the model's: the host asks its user, or nothing happens.
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (!link) return;
  event.preventDefault();
  if (host.opensLinks) host.openLink(link.href).catch(() => {});
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && inFull() && host.offers("inline")) host.display("inline").catch(() => {});
});

// -- the host's look

async function follow(context) {
  const { documentElement: root, body } = document;
  if (context.theme === "light" || context.theme === "dark") root.dataset.theme = context.theme;
  else delete root.dataset.theme;
  const look = (name, value) => (value ? root.style.setProperty(name, value) : root.style.removeProperty(name));
  const variables = context.styles?.variables ?? {};
  look("--host-background", variables["--color-background-primary"]);
  look("--host-font", variables["--font-sans"]);
  const room = context.containerDimensions ?? {};
  body.toggleAttribute("data-fill", inFull() || typeof room.height === "number");
  look("--room", typeof room.maxHeight === "number" && `${room.maxHeight}px`);
  const inset = Math.max(0, ...Object.values(context.safeAreaInsets ?? {}).filter(Number.isFinite));
  look("--inset", inset && `${inset}px`);
  const wish = spoken([context.locale, ...navigator.languages].filter(Boolean));
  if (wish !== language() || !document.documentElement.dataset.ready) {
    await speak(wish);
    viewer.relabel();
    text.build();
    text.shown = "";
    root.dataset.ready = "";
  }
  paint();
}

host.addEventListener("context", ({ detail }) => follow(detail));

async function start() {
  paint();
  setEngineTitles(JSON.parse(document.documentElement.dataset.engines));
  await host.connect("deepseek-ocr", document.documentElement.dataset.version);
  await follow(host.context);
  host.ready();
  new ResizeObserver(() => {
    if (!document.body.hasAttribute("data-fill")) host.resized(Math.ceil(document.body.getBoundingClientRect().height));
  }).observe(document.body);
}

start();
