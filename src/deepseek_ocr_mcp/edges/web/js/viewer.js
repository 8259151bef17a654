// The page as a picture with its boxes. Boxes are drawn in the page's own pixels, so they sit where they were read
// at every zoom; a box and its text light up together.

import { h, icon, iconButton, svg } from "./dom.js";
import { number, t } from "./i18n.js";

// The longer side of a page's picture, in pixels; the server's models.py has the same numbers.
export const PREVIEW_SIDE = 1600; // sharp on a large screen; also the thumbnail
export const SHARP_SIDE = 2400; // the most that the server draws, for a page that is looked at closely

const MOST = 8; // times the size that fits
const STEP = 1.4;
const MARGIN = 20; // px around a page that fits
const TOOLS = 64; // px at the lower edge: the toolbar does not cover a page that fits
const READABLE = 16; // px: the height of a line that a hit is shown at
const SHARP_AT = 1.7; // from here on a larger picture is worth its bytes
const LEAST_SKEW = 0.8; // degrees: less is hardly seen, and as much is measured on single words that are level
const LEAST_LINES = 3; // that tell how a page leans
const MOST_SKEW = 20; // degrees: a page that leans more is not straightened, because its author wanted it so

/** The kind of a label, which gives the colour of its box. */
const KINDS = [
  [/^(sub_)?title$/i, "title"],
  [/^table$/i, "table"],
  [/^(image|figure|chart|photo|picture|seal|stamp|logo)$/i, "figure"],
  [/^(formula|(interline_)?equation)$/i, "formula"],
  [/^(qr_code|barcode)$/i, "code"],
];

/** Degrees clockwise by which a block leans, off its nearest quarter turn. */
const leanOf = ({ angle = 0 }) => ((((angle + 45) % 90) + 90) % 90) - 45;

/** Degrees by which the text of a page leans: that of its middle block. */
function skewOf(blocks) {
  const leans = blocks.filter((block) => block.text).map(leanOf).sort((a, b) => a - b);
  const middle = leans[Math.floor(leans.length / 2)] ?? 0;
  return leans.length >= LEAST_LINES && Math.abs(middle) >= LEAST_SKEW && Math.abs(middle) <= MOST_SKEW ? middle : 0;
}

/** The rectangle that is drawn for a block. For a line that leans it leans too, and lies close around the text. */
function drawn(block) {
  const [x1, y1, x2, y2] = block.box;
  const [width, height] = [Math.max(1, x2 - x1), Math.max(1, y2 - y1)];
  const lean = leanOf(block);
  const level = { x: x1, y: y1, width, height };
  if (Math.abs(lean) < LEAST_SKEW || Math.abs(lean) > MOST_SKEW) return level;
  const [c, s] = [Math.cos((lean * Math.PI) / 180), Math.abs(Math.sin((lean * Math.PI) / 180))];
  const [w, ht] = [(width * c - height * s) / (c * c - s * s), (height * c - width * s) / (c * c - s * s)];
  if (w < 2 || ht < 2) return level; // a box that was not made of a rectangle that leans
  const [x, y] = [(x1 + x2) / 2, (y1 + y2) / 2];
  return { x: x - w / 2, y: y - ht / 2, width: w, height: ht, transform: `rotate(${lean} ${x} ${y})` };
}

export const kindOf = (label) => KINDS.find(([pattern]) => pattern.test(label))?.[1] ?? "text";

export class Viewer extends EventTarget {
  /**
   * Events: `light` and `pick` with `detail` = index of a block or -1; `word` with `{block, word}` or null; `page` with a
   * step; `thumb` with a page whose small picture is wanted; `sharper`; `turned` with the degrees; `moved` with the index
   * of the block that is uppermost.
   */
  constructor(root) {
    super();
    this.root = root;
    this.scale = 1;
    this.x = 0;
    this.y = 0;
    this.page = null;
    this.blocks = [];
    this.boxesShown = true;
    /** Degrees clockwise by which the page is shown turned. */
    this.turned = 0;
    /** Degrees by which the page leans, and whether it is shown as if it did not. */
    this.skew = 0;
    this.straight = true;
    this.build();
  }

  build() {
    this.image = h("img", { class: "sheet-image", alt: "", draggable: "false" });
    this.overlay = svg("svg", { class: "overlay", "aria-hidden": "true", preserveAspectRatio: "none" });
    this.scan = h("div", { class: "scan", hidden: true });
    this.word = svg("rect", { class: "word", rx: 2, hidden: "" });
    this.upright = h("div", { class: "sheet-upright" }, this.image, this.overlay, this.scan);
    this.sheet = h("div", { class: "sheet-frame" }, this.upright);
    this.tag = h("div", { class: "box-tag", hidden: true });
    this.empty = h("div", { class: "stage-empty" });
    this.stage = h("div", { class: "stage", tabindex: "0", role: "group" }, this.sheet, this.tag, this.empty);
    this.percent = h("button", { type: "button", class: "quiet small percent", onclick: () => this.fit() });
    this.pageText = h("span", { class: "page-number" });
    // Over the number lies a list of all pages: the browser's own, so that fingers and keys know it.
    this.pageList = h("select", { class: "page-list", onchange: () => this.send("page", Number(this.pageList.value) - this.at) });
    this.tools = h("div", { class: "tools", role: "toolbar" });
    this.strip = h("ol", { class: "strip-pages", hidden: true });
    this.root.replaceChildren(h("div", { class: "stage-wrap" }, this.strip, this.stage), this.tools);
    this.relabel();
    this.listen();
    new ResizeObserver(() => this.place()).observe(this.stage);
  }

  /** The words of the toolbar, in the language that is chosen. */
  relabel() {
    this.stage.setAttribute("aria-label", t("stage"));
    this.tools.setAttribute("aria-label", t("tools"));
    const previous = iconButton("left", t("pagePrevious"), () => this.send("page", -1));
    const next = iconButton("right", t("pageNext"), () => this.send("page", 1));
    this.pager = h("div", { class: "pager" }, previous, h("label", { class: "page-choice" }, this.pageText, this.pageList), next);
    this.pageList.setAttribute("aria-label", t("pageChoice"));
    this.pagerEnds = [previous, next];
    this.boxesButton = iconButton("boxes", t("boxesToggle"), () => this.showBoxes(!this.boxesShown), { "aria-pressed": String(this.boxesShown) });
    this.straightButton = iconButton("straighten", t("straighten"), () => this.straighten(!this.straight), { "aria-pressed": String(this.straight) });
    this.zoomTools = h("div", { class: "zoom" },
      this.boxesButton,
      iconButton("minus", t("zoomOut"), () => this.zoom(1 / STEP)),
      this.percent,
      iconButton("plus", t("zoomIn"), () => this.zoom(STEP)),
      iconButton("fit", t("zoomFit"), () => this.fit()),
      iconButton("rotate", t("rotate"), () => this.rotate(90)),
      this.straightButton,
    );
    this.percent.title = t("zoomFit");
    this.tools.replaceChildren(this.pager, this.zoomTools);
    this.paintTools();
  }

  send(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /**
   * Shows a page: `{key, url, width, height}`, in pixels of the upright page, or null with a sentence. `turned`: degrees; by
   * default the same page stays as it is, and another page is not turned.
   */
  show(page, { note = "", busy = false, alt = "", turned = null } = {}) {
    const known = page && this.page && page.key === this.page.key;
    const same = known && (turned === null || this.turned === turned);
    this.page = page;
    this.turned = turned ?? (known ? this.turned : 0);
    this.sheet.hidden = !page;
    this.empty.hidden = Boolean(page);
    this.empty.replaceChildren(...(busy ? [h("div", { class: "sheet-ghost" }, h("span", { class: "sr" }, t("loadingPage")))] : note ? [icon("alert"), h("p", {}, note)] : []));
    if (page) {
      if (this.image.getAttribute("src") !== page.url) this.image.src = page.url;
      this.image.alt = alt;
      this.overlay.setAttribute("viewBox", `0 0 ${page.width} ${page.height}`);
      this.root.style.setProperty("--ratio", String(this.size.height / this.size.width));
    } else this.image.removeAttribute("src");
    if (!same) this.fit(false);
    else this.place();
    this.paintTools();
  }

  setPager(at, count) {
    this.at = at;
    this.count = count;
    this.paintTools();
  }

  /** Pixels of the page as it is shown. */
  get size() {
    const { width, height } = this.page;
    return this.turned % 180 ? { width: height, height: width } : { width, height };
  }

  /** A box of the page in pixels of the page as it is shown. */
  onSheet([x1, y1, x2, y2]) {
    const { width, height } = this.page;
    if (this.turned === 90) return [height - y2, x1, height - y1, x2];
    if (this.turned === 180) return [width - x2, height - y2, width - x1, height - y1];
    if (this.turned === 270) return [y1, width - x2, y2, width - x1];
    return [x1, y1, x2, y2];
  }

  rotate(by) {
    if (!this.page) return;
    this.turned = (this.turned + by + 360) % 360;
    this.root.style.setProperty("--ratio", String(this.size.height / this.size.width));
    this.fit();
    this.send("turned", this.turned);
  }

  /** Shows the page level, or as it lies. */
  straighten(on) {
    this.straight = on;
    this.straightButton.setAttribute("aria-pressed", String(on));
    this.place();
  }

  /** `found`: the boxes are hits of a search, numbered and marked as with a pen. */
  setBlocks(blocks, { found = false, first = 1 } = {}) {
    this.blocks = blocks;
    this.overlay.classList.toggle("found", found);
    this.overlay.replaceChildren(
      ...blocks.map((block, index) => {
        return svg("rect", { ...drawn(block), rx: 2, class: `box ${kindOf(block.label)}`, "data-block": index });
      }),
      this.word,
    );
    this.lightWord(null);
    this.found = found;
    this.first = first;
    this.skew = skewOf(blocks);
    this.place(false);
    this.light(-1);
    this.paintTools();
  }

  showBoxes(shown) {
    this.boxesShown = shown;
    this.overlay.classList.toggle("off", !shown);
    this.boxesButton.setAttribute("aria-pressed", String(shown));
  }

  light(index) {
    this.lit = index;
    for (const node of this.overlay.children) node.classList.toggle("lit", Number(node.dataset.block) === index);
    this.paintTag();
  }

  /** Marks a word of a block on the picture; null: none. */
  lightWord(at) {
    const box = at && this.blocks[at.block]?.words?.[at.word]?.box;
    this.word.toggleAttribute("hidden", !box);
    if (!box) return;
    const [x1, y1, x2, y2] = box;
    for (const [name, value] of Object.entries({ x: x1, y: y1, width: Math.max(1, x2 - x1), height: Math.max(1, y2 - y1) })) this.word.setAttribute(name, value);
  }

  /** The word of the picture at a point of the screen, as `{block, word}`; null: none. */
  wordAt(block, event) {
    const words = this.blocks[block]?.words;
    const matrix = words && this.overlay.getScreenCTM();
    if (!matrix) return null;
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse());
    const word = words.findIndex(({ box: [x1, y1, x2, y2] }) => x >= x1 && x <= x2 && y >= y1 && y <= y2);
    return word < 0 ? null : { block, word };
  }

  pin(index) {
    for (const node of this.overlay.children) node.classList.toggle("pinned", Number(node.dataset.block) === index);
  }

  /** Moves a box into view; a small one, so near that it can be read. */
  reveal(index) {
    const block = this.blocks[index];
    if (!block || !this.page) return;
    const [, upper, , lower] = this.onSheet(block.box);
    const high = ((lower - upper) * this.fitted.height) / this.size.height;
    if (this.found && high * this.scale < READABLE) this.zoom(READABLE / (high * this.scale));
    const factor = (this.fitted.width * this.scale) / this.size.width;
    const [x1, y1, x2, y2] = this.onSheet(block.box).map((value) => value * factor);
    const { clientWidth, clientHeight } = this.stage;
    const shift = (at, low, high, room) => (low + at < 24 || high + at > room - 24 ? room / 2 - (low + high) / 2 : at);
    this.x = shift(this.x, x1, x2, clientWidth);
    this.y = shift(this.y, y1, y2, clientHeight);
    this.place();
  }

  /** Moves a block to the upper edge, because the text was scrolled there; only where the page is larger than its pane. */
  follow(index) {
    const block = this.blocks[index];
    if (!block || !this.page || this.scale <= 1 || this.dragging) return;
    const factor = (this.fitted.width * this.scale) / this.size.width;
    this.y = 24 - this.onSheet(block.box)[1] * factor;
    this.place();
  }

  /** Tells which block is uppermost, when somebody has moved the page. */
  tellMoved() {
    if (this.scale <= 1 || !this.blocks.length) return;
    const factor = (this.fitted.width * this.scale) / this.size.width;
    let best = -1;
    let least = Infinity;
    this.blocks.forEach((block, index) => {
      const [, top, , bottom] = this.onSheet(block.box).map((value) => value * factor);
      if (this.y + bottom > 0 && this.y + top < least) [best, least] = [index, this.y + top];
    });
    if (best >= 0) this.send("moved", best);
  }

  /** A light that travels down the page while it is read; null: none. */
  setScan(fraction) {
    this.scan.hidden = fraction === null;
    this.sheet.classList.toggle("reading", fraction !== null);
    if (fraction !== null) this.scan.style.setProperty("--at", String(Math.min(1, Math.max(0, fraction))));
  }

  fit(smooth = true) {
    this.scale = 1;
    this.x = this.y = 0;
    this.place(smooth);
  }

  zoom(by, at = null) {
    if (!this.page) return;
    const to = Math.min(MOST, Math.max(1, this.scale * by));
    const { clientWidth, clientHeight } = this.stage;
    const [px, py] = at ?? [clientWidth / 2, clientHeight / 2];
    this.x = px - ((px - this.x) * to) / this.scale;
    this.y = py - ((py - this.y) * to) / this.scale;
    this.scale = to;
    this.place();
    if (to >= SHARP_AT) this.send("sharper");
  }

  place(smooth = true) {
    if (!this.page) return;
    const { clientWidth, clientHeight } = this.stage;
    const room = [Math.max(40, clientWidth - 2 * MARGIN), Math.max(40, clientHeight - MARGIN - TOOLS)];
    const { size } = this;
    const factor = Math.min(room[0] / size.width, room[1] / size.height, 1.5);
    this.fitted = { width: size.width * factor, height: size.height * factor };
    const width = this.fitted.width * this.scale;
    const height = this.fitted.height * this.scale;
    const bound = (at, length, whole, low, high) =>
      length <= whole - low - high ? low + (whole - low - high - length) / 2 : Math.min(low, Math.max(whole - length - high, at));
    this.x = bound(this.x, width, clientWidth, MARGIN, MARGIN);
    this.y = bound(this.y, height, clientHeight, MARGIN, TOOLS);
    const { style } = this.sheet;
    this.sheet.classList.toggle("smooth", smooth && !this.dragging);
    style.width = `${width}px`;
    style.height = `${height}px`;
    style.transform = `translate(${this.x}px, ${this.y}px)`;
    const across = this.turned % 180 !== 0;
    this.upright.style.width = `${across ? height : width}px`;
    this.upright.style.height = `${across ? width : height}px`;
    const angle = this.turned - (this.straight ? this.skew : 0);
    this.upright.style.transform = angle ? `translate(-50%, -50%) rotate(${angle}deg)` : "";
    this.upright.classList.toggle("turned", angle !== 0);
    this.sheet.classList.toggle("leaning", angle % 90 !== 0);
    this.stage.classList.toggle("zoomed", this.scale > 1);
    this.percent.textContent = number(this.scale, { style: "percent", maximumFractionDigits: 0 });
    this.paintTag();
  }

  paintTools() {
    const many = this.count > 1;
    this.pager.hidden = !many;
    if (many) {
      this.pageText.textContent = t("pageOf", { page: this.at, count: this.count });
      if (this.pageList.length !== this.count) {
        this.pageList.replaceChildren(...Array.from({ length: this.count }, (_, n) => new Option(String(n + 1), String(n + 1))));
      }
      this.pageList.value = String(this.at);
      this.pagerEnds[0].disabled = this.at <= 1;
      this.pagerEnds[1].disabled = this.at >= this.count;
    }
    this.zoomTools.hidden = !this.page;
    this.tools.hidden = !this.page && !many; // a page without a picture can be left
    this.boxesButton.hidden = this.blocks.length === 0;
    this.straightButton.hidden = this.skew === 0;
  }

  /** The pages in small, beside the page. `thumb(page)`: the address of a picture, or "" until it is there. */
  setStrip(count, at, thumb, failed) {
    this.strip.hidden = count < 2;
    if (this.strip.hidden) return;
    if (this.strip.children.length !== count) {
      this.seen?.disconnect();
      // A picture is asked for when its place comes into view.
      this.seen = new IntersectionObserver((entries) => {
        for (const entry of entries) if (entry.isIntersecting) this.send("thumb", Number(entry.target.dataset.page));
      }, { root: this.strip, rootMargin: "200px" });
      this.strip.replaceChildren(...Array.from({ length: count }, (_, n) => {
        const button = h("button", { type: "button", class: "strip-page", tabindex: "-1", onclick: () => this.send("page", n + 1 - this.at) }, h("span", { class: "thumb waits" }), h("span", { class: "strip-number" }, String(n + 1)));
        button.dataset.page = String(n + 1);
        button.setAttribute("aria-label", t("pageOf", { page: n + 1, count }));
        this.seen.observe(button);
        return h("li", {}, button);
      }));
    }
    for (const { firstChild: button } of this.strip.children) {
      const page = Number(button.dataset.page);
      const place = button.firstChild;
      const url = thumb(page);
      if (url && place.firstChild?.src !== url) place.replaceChildren(h("img", { src: url, alt: "", draggable: "false" }));
      place.classList.toggle("waits", !url && !failed(page));
      button.classList.toggle("failed", failed(page));
      if (page === at) {
        if (button.getAttribute("aria-current") !== "true") button.scrollIntoView({ block: "nearest", inline: "nearest" });
        button.setAttribute("aria-current", "true");
      } else button.removeAttribute("aria-current");
      button.tabIndex = page === at ? 0 : -1;
    }
  }

  paintTag() {
    const block = this.blocks[this.lit];
    this.tag.hidden = !block || !this.page || !this.boxesShown;
    if (this.tag.hidden) return;
    const factor = (this.fitted.width * this.scale) / this.size.width;
    const score = typeof block.score === "number" ? number(block.score, { style: "percent", maximumFractionDigits: 0 }) : "";
    const name = this.found ? t("hit", { n: this.first + this.lit }) : t(`label.${kindOf(block.label)}`);
    this.tag.textContent = [name, score].filter(Boolean).join(" · ");
    const [x1, y1, x2, y2] = this.onSheet(block.box).map((value) => value * factor);
    const { offsetWidth, offsetHeight } = this.tag;
    // Beside a line where there is room, so that it hides none; above a hit, whose line goes on.
    let left = this.x + x2 + 8;
    let top = this.y + (y1 + y2 - offsetHeight) / 2;
    if (this.found || left + offsetWidth > this.stage.clientWidth - 4) {
      left = Math.min(Math.max(4, this.x + x1), this.stage.clientWidth - offsetWidth - 4);
      top = this.y + y1 - offsetHeight - 4;
      if (top < 4) top = this.y + y2 + 4;
    }
    this.tag.style.transform = `translate(${left}px, ${top}px)`;
  }

  listen() {
    const { stage } = this;
    this.strip.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.send("page", step);
      this.strip.querySelector("[aria-current]")?.focus();
    });
    const blockAt = (event) => (event.target.dataset?.block === undefined ? -1 : Number(event.target.dataset.block));
    const pointers = new Map();
    let moved = 0;
    let spread = 0;

    stage.addEventListener("pointerover", (event) => {
      if (!this.dragging) this.send("light", blockAt(event));
    });
    stage.addEventListener("pointerleave", () => (this.send("light", -1), this.send("word", null)));
    stage.addEventListener("pointermove", (event) => {
      if (!this.dragging) this.send("word", this.wordAt(blockAt(event), event));
    });
    stage.addEventListener("pointerdown", (event) => {
      if (!this.page || event.button !== 0) return;
      pointers.set(event.pointerId, [event.clientX, event.clientY]);
      moved = spread = 0;
    });
    stage.addEventListener("pointermove", (event) => {
      const last = pointers.get(event.pointerId);
      if (!last) return;
      const [dx, dy] = [event.clientX - last[0], event.clientY - last[1]];
      pointers.set(event.pointerId, [event.clientX, event.clientY]);
      if (pointers.size === 2) {
        const [[ax, ay], [bx, by]] = [...pointers.values()];
        const now = Math.hypot(ax - bx, ay - by);
        const frame = stage.getBoundingClientRect();
        if (spread) this.zoom(now / spread, [(ax + bx) / 2 - frame.left, (ay + by) / 2 - frame.top]);
        spread = now;
        moved = 99;
        return;
      }
      moved += Math.abs(dx) + Math.abs(dy);
      if (moved < 4 || this.scale === 1) return;
      if (!this.dragging) {
        this.dragging = true;
        stage.setPointerCapture(event.pointerId);
        stage.classList.add("dragging");
      }
      this.x += dx;
      this.y += dy;
      this.place();
    });
    const release = (event) => {
      if (!pointers.delete(event.pointerId)) return;
      if (event.type === "pointerup" && moved < 4) this.send("pick", blockAt(event));
      if (this.dragging) this.tellMoved();
      this.dragging = false;
      stage.classList.remove("dragging");
    };
    stage.addEventListener("pointerup", release);
    stage.addEventListener("pointercancel", release);
    stage.addEventListener("dblclick", (event) => {
      const frame = stage.getBoundingClientRect();
      if (this.scale > 1) this.fit();
      else this.zoom(2.5, [event.clientX - frame.left, event.clientY - frame.top]);
    });
    stage.addEventListener("wheel", (event) => {
      if (!this.page) return;
      const frame = stage.getBoundingClientRect();
      if (event.ctrlKey || event.metaKey) {
        event.preventDefault();
        this.zoom(Math.exp(-event.deltaY / 300), [event.clientX - frame.left, event.clientY - frame.top]);
      } else if (this.scale > 1) {
        event.preventDefault();
        this.x -= event.deltaX;
        this.y -= event.deltaY;
        this.place(false);
        this.tellMoved();
      }
    }, { passive: false });
    stage.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !this.page) return;
      const pan = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
      if (pan && this.scale > 1) {
        this.x += pan[0];
        this.y += pan[1];
        this.place();
        this.tellMoved();
      } else if (event.key === "+" || event.key === "=") this.zoom(STEP);
      else if (event.key === "-") this.zoom(1 / STEP);
      else if (event.key === "0") this.fit();
      else if (event.key === "r" || event.key === "R") this.rotate(event.shiftKey ? -90 : 90);
      else if (event.key === "PageDown" || (event.key === "ArrowRight" && this.count > 1)) this.send("page", 1);
      else if (event.key === "PageUp" || (event.key === "ArrowLeft" && this.count > 1)) this.send("page", -1);
      else return;
      event.preventDefault();
    });
  }
}
