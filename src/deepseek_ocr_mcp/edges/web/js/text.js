// A page's text: rendered, as it was written, and part by part; while it is read, and when that failed.
// When the pointer or the focus is on a block, its entry, its text and its box light up together.

import { copyRich, h, icon, iconButton, toast } from "./dom.js";
import { errorBox } from "./errors.js";
import { engineName, has, language, number, seconds, t } from "./i18n.js";
import { inline, linkBlocks, prepare, render } from "./markdown.js";
import { inWords } from "./server.js";
import { ACTIVE, doing } from "./states.js";
import { asTsv, bareHtml, cells } from "./tables.js";
import { kindOf } from "./viewer.js";
import { mark, rangeOf, wordAt } from "./words.js";

const MOST_LINES = 3000; // of a page, in the list: more would only make the page slow
const MARKED = /[<*_`$\\]/; // a character that Markdown could mean something by
const TABLE = /<table\b/i;
const UNSURE = 0.8; // of 1: RapidOCR reads clean print at 0.95 and more, and what it gets wrong mostly below this

/** A note. In English: the server's sentence. In other languages: its translation, or else a general sentence for its code and the server's sentence below. */
function noteBox({ code, text, pages }) {
  const about = pages ? `${t(/[,-]/.test(pages) ? "note.pages" : "note.page", { pages })} ` : "";
  const known = text ? inWords(text) : t(`note.${code}`);
  if (known && code !== "page_failed") return h("p", { class: "note" }, about + known);
  if (language() === "en" || !has(`note.${code}`)) return h("p", { class: "note", lang: "en" }, about + text);
  return h("div", { class: "note" },
    h("p", {}, about + (known || t(`note.${code}`))),
    h("details", {}, h("summary", {}, t("serverSays")), h("p", { lang: "en" }, text)),
  );
}

/** Whether a note is about this page, or about the whole answer. Pages are like "1-3,7". */
const isAbout = ({ pages }, page) =>
  !pages ||
  pages.split(",").some((part) => {
    const [first, last = first] = part.split("-").map(Number);
    return first <= page && page <= last;
  });

/** The notes: those about the shown page, or about all pages, come first. */
function noteList(notes, page) {
  const here = notes.filter((note) => isAbout(note, page));
  const elsewhere = notes.filter((note) => !isAbout(note, page));
  return [...here, ...elsewhere].map(noteBox);
}

export class TextPane extends EventTarget {
  /**
   * Events: `light`, `pick` with the index of a block; `word` with `{block, word}`; `retry` with the item; `go` with a
   * page; `edited` with the item; `scrolled` with the index of the block that is uppermost.
   *
   * It shows an item, which has these fields:
   * - `state`, `page`, `progress`, `error`: the state of the reading, the page that is shown, and why reading failed;
   * - `answer`: the pages that are read so far, or null;
   * - `read`: the shown page of the answer;
   * - `resultNumber`: differs for each result;
   * - `asked`: mode and term of the reading;
   * - `caption`: a name, if nothing beside the pane names the item.
   */
  constructor(root) {
    super();
    this.root = root;
    this.item = null;
    this.chosenTabs = { find: "lines", other: "text" };
    this.shown = "";
    this.editing = false;
    this.build();
  }

  /** The result that is shown, with the pages that are read so far. */
  get answer() {
    const { item } = this;
    return !item ? null : "answer" in item ? item.answer : item.state === "done" ? item.result : null;
  }

  send(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  get tab() {
    return this.chosenTabs[this.answer?.mode === "find" ? "find" : "other"];
  }

  set tab(name) {
    this.chosenTabs[this.answer?.mode === "find" ? "find" : "other"] = name;
  }

  build() {
    this.tabs = h("div", { class: "tabs", role: "tablist", "aria-label": t("views") });
    this.tabs.addEventListener("keydown", (event) => {
      const all = [...this.tabs.children];
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = all.at((all.indexOf(document.activeElement) + step) % all.length);
      next.click();
      this.tabs.querySelector("[aria-selected=true]")?.focus();
    });
    this.copy = h("button", { type: "button", class: "quiet small", onclick: () => this.copyAll() }, icon("copy"), h("span", {}, t("copy")));
    this.head = h("div", { class: "text-head" }, this.tabs, h("div", { class: "text-actions" }, this.copy, this.moreActions()));
    this.body = h("div", { class: "text-body", id: "text-body" });
    this.facts = h("p", { class: "text-facts" });
    this.root.replaceChildren(this.head, this.body, this.facts);
    this.body.addEventListener("pointermove", (event) => this.pointAt(event));
    this.body.addEventListener("scroll", () => this.tellScrolled(), { passive: true });
    for (const type of ["pointerover", "focusin"]) {
      this.body.addEventListener(type, (event) => {
        const index = event.target.closest?.("[data-block]")?.dataset.block;
        this.send("light", index === undefined ? -1 : Number(index));
      });
    }
    this.body.addEventListener("pointerleave", () => (this.send("light", -1), this.send("word", null)));
    this.body.addEventListener("focusout", () => this.send("light", -1));
    this.body.addEventListener("click", (event) => {
      const bit = event.target.closest?.("[data-block]");
      if (bit && !event.target.closest("a") && String(getSelection()) === "") this.send("pick", Number(bit.dataset.block));
    });
  }

  /** Paints the item as it is now. Only what changed is built again, so that focus and scrolling stay. */
  async show(item, preview) {
    if (this.item?.id !== item?.id || this.item?.page !== item?.page) this.editing = false;
    this.item = item;
    this.preview = preview;
    const done = item?.state === "done" && item.result;
    const partly = !done && item?.read;
    const key = [item?.id, partly ? "partly" : item?.state, item?.page, this.tab, done && item.resultNumber, item?.error?.code, item?.locked, (done || partly) && preview?.key, this.editing].join("|");
    if (key === this.shown) {
      this.paintProgress();
      return;
    }
    this.shown = key;
    this.head.hidden = !done && !partly;
    this.facts.hidden = !done;
    this.root.classList.toggle("done", Boolean(done || partly));
    mark("word", []);
    if (done || partly) await this.paintDone();
    else if (!item) this.body.replaceChildren();
    else if (ACTIVE.has(item.state)) this.paintWorking();
    else if (item.state === "error") {
      this.body.replaceChildren(this.failed(item));
    } else if (item.state === "cancelled") {
      this.body.replaceChildren(h("div", { class: "calm" }, h("p", {}, t("state.cancelled.long")), this.canRetry(item) && this.button("again", t("readAgain"), "retry", "primary small")));
    } else this.body.replaceChildren(this.ready(item));
  }

  // -- what those who use it add

  /** Buttons beside the one that copies. */
  moreActions() {
    return [];
  }

  canRetry(_item) {
    return true;
  }

  /** In the place of the text: the reading failed. */
  failed(item) {
    return errorBox(item.error, this.canRetry(item) && this.button("again", t("retry"), "retry", "primary small"));
  }

  /** In the place of the text: the item was not asked for yet. */
  ready(_item) {
    return "";
  }

  /** Buttons while it is read. */
  workingActions() {
    return [];
  }

  /** In the place of the text: this page was not read. */
  unread(item) {
    return h("div", { class: "calm" }, h("p", {}, t("pageNotRead", { page: item.page })));
  }

  button(name, text, event, look) {
    return h("button", { type: "button", class: look, onclick: () => this.send(event, this.item) }, icon(name), h("span", {}, text));
  }

  // -- while it works

  paintWorking() {
    this.bar = h("div", { class: "fill", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100", "aria-label": t("progress") });
    this.doing = h("p", { class: "doing" });
    this.body.replaceChildren(
      h("div", { class: "working" },
        this.doing,
        h("div", { class: "track" }, this.bar),
        h("div", { class: "ghost-lines", "aria-hidden": "true" }, [92, 100, 84, 96, 60, 0, 88, 100, 72].map((width) => {
          const line = h("span", {});
          line.style.width = `${width}%`;
          return line;
        })),
        h("div", { class: "actions" }, this.workingActions()),
      ),
    );
    this.paintProgress();
  }

  paintProgress() {
    const { item } = this;
    if (!item || !ACTIVE.has(item.state) || !this.bar?.isConnected) return;
    this.doing.textContent = doing(item);
    const known = item.state === "reading" ? item.progress.done > 0 : item.state === "sending" && item.sent > 0;
    this.bar.classList.toggle("unknown", !known);
    this.bar.style.width = known ? `${100 * item.fraction}%` : "";
    if (known) this.bar.setAttribute("aria-valuenow", String(Math.round(100 * item.fraction)));
    else this.bar.removeAttribute("aria-valuenow");
  }

  // -- when it is done

  views() {
    const { item, answer } = this;
    const page = item.read;
    const lines = page?.blocks?.length ?? 0;
    const found = answer.mode === "find";
    const views = [];
    if (found) views.push(["lines", t("view.hits", { n: hits(answer) })]);
    views.push(["text", t("view.text")]);
    if (answer.markdown) views.push(["source", t("view.source")]);
    if (!found && lines) views.push(["lines", t("view.lines", { n: lines })]);
    return views;
  }

  async paintDone() {
    const { item, answer: result } = this;
    const page = item.read;
    const views = this.views();
    const tab = views.some(([name]) => name === this.tab) ? this.tab : views[0][0];
    this.tabs.replaceChildren(
      ...views.map(([name, text]) =>
        h("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-selected": String(name === tab), "aria-controls": "text-view", tabindex: name === tab ? "0" : "-1", onclick: () => this.choose(name) }, text),
      ),
    );
    if (item.state === "done") this.paintFacts(result);
    const notes = noteList(result.notes ?? [], item.page);
    const view = h("div", { id: "text-view", class: `view in-${tab}`, role: "tabpanel", "aria-labelledby": `tab-${tab}` });
    if (!page) view.append(this.unread(item));
    else if (this.editing) view.append(this.editor(page));
    else if (tab === "lines") {
      const { shown } = this;
      if (page.blocks?.some(({ text }) => this.isMarked(page, text))) await prepare(page.text);
      if (shown !== this.shown) return;
      view.append(this.lines(page));
    }
    else if (!page.text.trim()) view.append(h("div", { class: "calm" }, h("p", {}, t(page.finish === "failed" ? "finish.failed" : "blank"))));
    else if (tab === "source") view.append(h("pre", { class: "source", tabindex: "0", dir: "auto" }, page.text));
    else {
      const { shown } = this;
      const article = await this.article(page, result.markdown);
      if (shown !== this.shown) return;
      view.append(article);
      if (article.querySelector("table")) view.append(this.tableButton(view));
    }
    if (page && !["stop", "failed"].includes(page.finish)) notes.push(h("p", { class: "note" }, t(`finish.${page.finish}`)));
    this.body.replaceChildren(...[ACTIVE.has(item.state) && this.strip(), notes.length && h("div", { class: "notes" }, ...notes), view].filter(Boolean));
    this.body.scrollTop = 0;
    this.paintProgress();
    this.painted?.();
  }

  repaintFacts() {
    if (this.item?.state === "done") this.paintFacts(this.answer);
  }

  paintFacts(result) {
    this.facts.textContent = [
      this.item.caption,
      t("pages.n", { n: result.pages.length }),
      [engineName(result.engine), result.model.replace(/\s*\(.*\)$/, "")].filter((part, index, all) => part && all.indexOf(part) === index).join(" "),
      result.device,
      result.timing.load_s >= 0.1 && t("loadedIn", { s: seconds(result.timing.load_s) }),
      result.timing.total_s > 0 && t("readIn", { s: seconds(Math.max(0.1, result.timing.infer_s)) }),
    ].filter(Boolean).join(" · ");
  }

  /** A page as it is to be read, tied to its boxes. */
  async article(page, markdown) {
    const blocks = page.blocks ?? [];
    const article = h("article", { class: "prose", dir: "auto", tabindex: "0", "aria-label": t("view.text") });
    if (!markdown) article.append(h("div", { class: "plain-text" }, page.text));
    else {
      await prepare(page.text);
      article.append(render(page.text, (n) => this.figure(page, n)));
    }
    linkBlocks(article, blocks);
    const formulas = [...article.querySelectorAll(".math.display")];
    const boxes = blocks.flatMap((block, index) => (kindOf(block.label) === "formula" ? [index] : []));
    if (formulas.length === boxes.length) formulas.forEach((node, n) => (node.dataset.block = String(boxes[n])));
    for (const bit of article.querySelectorAll(".bit")) {
      const { score } = blocks[bit.dataset.block];
      if (typeof score !== "number" || score >= UNSURE) continue;
      bit.classList.add("unsure");
      bit.title = t("unsure", { part: number(score, { style: "percent", maximumFractionDigits: 0 }) });
    }
    return article;
  }

  /** A button that copies the table that is pointed at or focused; it lies above the text and is no part of it. */
  tableButton(view) {
    let table = view.querySelector("table");
    const button = iconButton("copy", t("copyTable"), () => this.copyTable(table), { class: "quiet icon-only table-copy" });
    const move = ({ target }) => {
      const frame = target.closest?.(".table-frame");
      if (!frame) return;
      table = frame.querySelector("table");
      const [place, own] = [frame.getBoundingClientRect(), view.getBoundingClientRect()];
      button.style.top = `${place.top - own.top - 16}px`; // over the corner: no cell is hidden
      button.style.right = `${own.right - place.right - 8}px`;
      button.classList.add("there");
    };
    for (const type of ["pointerover", "focusin"]) view.addEventListener(type, move);
    return button;
  }

  /** The progress above the pages that are read already. */
  strip() {
    this.bar = h("div", { class: "fill", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100", "aria-label": t("progress") });
    this.doing = h("p", { class: "doing" });
    return h("div", { class: "strip" }, this.doing, h("div", { class: "actions" }, this.workingActions()), h("div", { class: "track" }, this.bar));
  }

  // -- editing

  /** The text of the page, to be put right by hand. */
  editor(page) {
    const area = h("textarea", { class: "editor", spellcheck: "false", dir: "auto", "aria-label": t("edit.label", { page: page.page }) });
    area.value = page.text;
    const reset = h("button", { type: "button", class: "plain small", hidden: page.original === undefined, onclick: () => change(page.original) }, t("edit.reset"));
    const change = (text) => {
      page.original ??= page.text;
      page.text = text;
      if (area.value !== text) area.value = text;
      if (page.text === page.original) delete page.original;
      reset.hidden = page.original === undefined;
      this.answer.text = this.answer.pages.map((each) => each.text).filter(Boolean).join("\n\n");
      this.send("edited", this.item);
    };
    area.addEventListener("input", () => change(area.value));
    const end = h("button", { type: "button", class: "primary small", onclick: () => this.edit(false) }, t("edit.end"));
    return h("div", { class: "editing" }, area, h("div", { class: "actions" }, reset, end));
  }

  edit(on) {
    this.editing = on && Boolean(this.item?.read) && this.item.state === "done";
    this.show(this.item, this.preview).then(() => (on ? this.body.querySelector(".editor") : this.body.querySelector(".prose"))?.focus({ preventScroll: true }));
  }

  choose(tab) {
    this.tab = tab;
    this.editing = false;
    this.show(this.item, this.preview);
  }

  /** Whether the text of a block is Markdown, as models write it; a recogniser's is the bare line, which Markdown escapes. */
  isMarked(page, text) {
    return this.answer.markdown && this.answer.mode !== "find" && MARKED.test(text) && (TABLE.test(text) || page.text.includes(text));
  }

  /** The list of what stands where: one tab stop, arrow keys move in it. */
  lines(page) {
    const found = this.answer.mode === "find";
    const blocks = page.blocks ?? [];
    if (!blocks.length) return this.noLines(found);
    const list = h("ol", { class: `lines ${found ? "found" : ""}`, "aria-label": found ? t("hitsLabel") : t("linesLabel") });
    const around = found ? contexts(page) : [];
    blocks.slice(0, MOST_LINES).forEach((block, index) => {
      const kind = kindOf(block.label);
      const named = kind === "text" ? block.label : t(`label.${kind}`);
      const words = this.isMarked(page, block.text) ? inline(block.text) : block.text || named;
      list.append(h("li", {},
        h("button", { type: "button", class: "entry", "data-block": String(index), tabindex: index ? "-1" : "0" },
          h("span", { class: `entry-mark ${kind}` }, found ? String(index + 1) : ""),
          h("span", { class: "entry-text", dir: "auto" }, around[index] ? [around[index][0], h("mark", {}, words), around[index][1]] : words),
          typeof block.score === "number" && h("span", { class: `muted score${block.score < UNSURE ? " unsure" : ""}` }, number(block.score, { style: "percent", maximumFractionDigits: 0 })),
        )));
    });
    list.addEventListener("keydown", (event) => {
      const all = [...list.querySelectorAll(".entry")];
      const at = all.indexOf(document.activeElement);
      const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
      if (to === undefined || !all[to]) return;
      event.preventDefault();
      all[at]?.setAttribute("tabindex", "-1");
      all[to].setAttribute("tabindex", "0");
      all[to].focus();
    });
    return h("div", {}, this.elsewhere(found), list);
  }

  noLines(found) {
    if (!found) return h("div", { class: "calm" }, h("p", {}, t("blank")));
    return h("div", {}, this.elsewhere(true), h("div", { class: "calm" }, h("p", {}, hits(this.answer) ? t("hitsElsewhere") : t("hitsNone", { term: this.item.asked.find_term }))));
  }

  /** On which other pages there are hits. */
  elsewhere(found) {
    const others = found ? this.answer.pages.filter((page) => page.blocks?.length && this.answer.pages.length > 1) : [];
    if (!others.length) return null;
    return h("p", { class: "elsewhere" },
      others.map((page) => h("button", { type: "button", class: "chip", "aria-current": page.page === this.item.page ? "true" : null, onclick: () => this.send("go", page.page) }, t("hitsOnPage", { page: page.page, n: page.blocks.length }))));
  }

  /** A figure, cut out of the picture of its page. */
  figure(page, n) {
    const block = (page.blocks ?? []).filter((each) => kindOf(each.label) === "figure")[n - 1];
    const preview = this.preview;
    if (!block || !preview) return null;
    const [x1, y1, x2, y2] = block.box;
    const factor = preview.side ? Math.min(1, preview.side / Math.max(page.width, page.height)) : 1;
    const canvas = h("canvas", { role: "img", "aria-label": t("figureN", { n }), width: Math.max(1, Math.round((x2 - x1) * factor)), height: Math.max(1, Math.round((y2 - y1) * factor)) });
    const image = new Image();
    image.addEventListener("load", () => {
      const by = image.naturalWidth / page.width;
      canvas.getContext("2d").drawImage(image, x1 * by, y1 * by, (x2 - x1) * by, (y2 - y1) * by, 0, 0, canvas.width, canvas.height);
    });
    image.src = preview.url;
    return h("figure", { "data-block": String((page.blocks ?? []).indexOf(block)) }, canvas);
  }

  light(index) {
    for (const node of this.body.querySelectorAll("[data-block]")) node.classList.toggle("lit", Number(node.dataset.block) === index);
  }

  reveal(index) {
    const node = this.body.querySelector(`[data-block="${index}"]`);
    if (!node) return;
    const frame = this.body.getBoundingClientRect();
    const place = node.getBoundingClientRect();
    if (place.top < frame.top + 40 || place.bottom > frame.bottom - 40) node.scrollIntoView({ block: "center", behavior: "smooth" });
  }

  // -- words

  /** The word that the pointer is at, in the text. */
  pointAt(event) {
    const block = event.target.closest?.(".bit")?.dataset.block;
    const words = block === undefined ? null : this.item?.read?.blocks?.[block]?.words;
    const word = words ? wordAt(this.body, block, words, event.clientX, event.clientY) : -1;
    this.send("word", word < 0 ? null : { block: Number(block), word });
  }

  /** Marks a word of a block; null: none. */
  lightWord(at) {
    const words = at && this.item?.read?.blocks?.[at.block]?.words;
    const range = words && rangeOf(this.body, at.block, words, at.word);
    mark("word", range ? [range] : []);
  }

  /** Which block is uppermost, when somebody scrolls. */
  tellScrolled() {
    if (this.following || !this.body.matches(":hover, :focus-within")) return;
    const top = this.body.getBoundingClientRect().top;
    const first = [...this.body.querySelectorAll("[data-block]")].find((node) => node.getBoundingClientRect().bottom > top + 8);
    if (first) this.send("scrolled", Number(first.dataset.block));
  }

  /** Brings a block to the top, because the picture was moved there. */
  follow(index) {
    const node = this.body.querySelector(`[data-block="${index}"]`);
    if (!node) return;
    this.following = true;
    this.body.scrollTop += node.getBoundingClientRect().top - this.body.getBoundingClientRect().top - 24;
    requestAnimationFrame(() => requestAnimationFrame(() => (this.following = false)));
  }

  // -- taking along

  /** The text of the pages as HTML for a text processor. */
  async html() {
    const all = h("div", {});
    for (const page of this.answer.pages) {
      if (!this.answer.markdown) all.append(...page.text.split("\n").map((line) => h("p", {}, line)));
      else {
        await prepare(page.text);
        all.append(render(page.text));
      }
    }
    return bareHtml(all);
  }

  async copyAll() {
    await this.copyAs(() => this.html(), this.answer.text);
  }

  async copyTable(table) {
    await this.copyAs(async () => bareHtml(h("div", {}, table.cloneNode(true))), asTsv(cells(table)));
  }

  async copyAs(html, text) {
    try {
      await copyRich(html, text);
      toast(t("copied"));
    } catch {
      toast(t("copyFailed"), "bad");
    }
  }
}

const hits = (result) => result.pages.reduce((sum, page) => sum + (page.blocks?.length ?? 0), 0);

/** What stands before and after each hit in its line; the engine's text of a page is the lines with hits, in their order. */
function contexts({ text, blocks }) {
  let from = 0;
  return (blocks ?? []).map((block) => {
    const at = block.text ? text.indexOf(block.text, from) : -1;
    if (at < 0) return null;
    from = at + block.text.length;
    const end = text.indexOf("\n", from);
    return [text.slice(text.lastIndexOf("\n", at) + 1, at), text.slice(from, end < 0 ? undefined : end)];
  });
}
