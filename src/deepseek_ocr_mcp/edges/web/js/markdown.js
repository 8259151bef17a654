// Turns what a model wrote into elements that can do no harm.
//
// Markdown is parsed without HTML; of HTML only tables and a few bare inline tags are understood, because
// DeepSeek-OCR writes them. Everything then passes DOMPurify with a short list of tags and no style, no image, no
// event, no address but http(s) and mailto. Formulas are built by KaTeX as elements, never as a string.
// Libraries are fetched when the first text is there, KaTeX with the first formula.

import { h } from "./dom.js";
import { t } from "./i18n.js";
import { FORMULA_OUTPUT, library, stylesheet } from "./load.js";

const LONGEST_FORMULA = 4000; // characters; more than that is a model gone astray
const MOST_SPAN = 200; // cells: a table that claims more would only cost time
const BARE_TAGS = ["b", "i", "u", "em", "strong", "sup", "sub", "center"];
const TABLE_TAGS = ["table", "thead", "tbody", "tfoot", "tr", "th", "td", "caption", "br", "b", "i", "u", "em", "strong", "sup", "sub", "#text"];
const TAGS = [...TABLE_TAGS, "p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "code", "s", "hr", "a", "span"];

const TABLES = /<table\b[\s\S]*?(?:<\/table\s*>|$)/gi;
const DELIMITERS = [
  ["\\(", "\\)", false],
  ["\\[", "\\]", true],
  ["$$", "$$", true],
];

let markdown = null;
let purify = null;
let katex = null;

/** Makes `render` possible. */
export async function prepare(text) {
  if (!markdown) {
    await Promise.all([library("markdown-it/markdown-it.umd.min.js"), library("dompurify/purify.min.js")]);
    purify = globalThis.DOMPurify;
    markdown = build(globalThis.markdownit);
  }
  if (!katex && /\\\(|\\\[|\$/.test(text)) {
    await Promise.all([library("katex/katex.min.js"), stylesheet("katex/katex.min.css")]);
    katex = globalThis.katex;
  }
}

/** A fragment. `figure(number)` gives the element for a figure's mark, or null. */
export function render(text, figure = () => null) {
  const out = document.createDocumentFragment();
  let from = 0;
  for (const match of text.matchAll(TABLES)) {
    out.append(fromMarkdown(text.slice(from, match.index), figure), fromTable(match[0]));
    from = match.index + match[0].length;
  }
  out.append(fromMarkdown(text.slice(from), figure));
  return out;
}

function fromMarkdown(text, figure) {
  if (!text.trim()) return document.createDocumentFragment();
  const env = { formulas: [] };
  const fragment = purify.sanitize(markdown.render(text, env), {
    RETURN_DOM_FRAGMENT: true,
    ALLOWED_TAGS: TAGS,
    ALLOWED_ATTR: ["href", "start", "data-math", "data-figure", "data-align", "data-center"],
    ADD_URI_SAFE_ATTR: ["start", "data-math", "data-figure", "data-align", "data-center"], // no addresses
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  });
  for (const link of fragment.querySelectorAll("a")) {
    if (!link.getAttribute("href")) link.replaceWith(...link.childNodes);
    else Object.assign(link, { target: "_blank", rel: "noopener noreferrer nofollow", title: link.href });
  }
  for (const node of fragment.querySelectorAll("[data-math]")) {
    const formula = env.formulas[Number(node.dataset.math)];
    if (formula) node.replaceWith(typeset(formula.source, formula.display));
  }
  for (const node of fragment.querySelectorAll("[data-figure]")) {
    const shown = figure(Number(node.dataset.figure));
    if (shown) node.replaceWith(shown);
    else node.remove();
  }
  for (const table of fragment.querySelectorAll("table")) scrollable(table);
  return fragment;
}

/** A table with the tags of tables only, and of their attributes the spans; whatever else looks like a tag is left out. */
function cleanTable(source) {
  const escaped = (text) => text.replace(/</g, "&lt;").replace(/>/g, "&gt;");
  let out = "";
  let from = 0;
  for (const match of source.matchAll(/<(\/?)([a-z][a-z0-9]*)\b([^<>]{0,400})>/gi)) {
    out += escaped(source.slice(from, match.index));
    from = match.index + match[0].length;
    const name = match[2].toLowerCase();
    if (!TABLE_TAGS.includes(name)) continue;
    const spans = match[1] ? [] : [...match[3].matchAll(/\b(colspan|rowspan)\s*=\s*["']?(\d{1,3})\b/gi)];
    const kept = spans.filter(([, , count]) => Number(count) >= 1 && Number(count) <= MOST_SPAN);
    out += `<${match[1]}${name}${kept.map(([, attribute, count]) => ` ${attribute.toLowerCase()}="${count}"`).join("")}>`;
  }
  return out + escaped(source.slice(from));
}

function fromTable(source) {
  // Cleaned before it is parsed at all: a handler in a tag that DOMPurify would drop counts as a breach of our policy.
  const fragment = purify.sanitize(cleanTable(source), {
    RETURN_DOM_FRAGMENT: true,
    ALLOWED_TAGS: TABLE_TAGS,
    ALLOWED_ATTR: ["colspan", "rowspan"],
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
  });
  const texts = document.createTreeWalker(fragment, NodeFilter.SHOW_TEXT);
  const found = [];
  while (texts.nextNode()) if (/\\\(|\$/.test(texts.currentNode.data)) found.push(texts.currentNode);
  for (const node of found) node.replaceWith(...withFormulas(node.data));
  for (const table of fragment.querySelectorAll("table")) if (!table.parentElement?.closest("table")) scrollable(table);
  return fragment;
}

/** A wide table scrolls in a frame of its own, which the keyboard can reach. */
function scrollable(table) {
  const frame = h("div", { class: "table-frame", tabindex: "0", role: "region", "aria-label": table.rows[0]?.textContent.trim().slice(0, 60) || t("label.table") });
  table.replaceWith(frame);
  frame.append(table);
}

function* withFormulas(text) {
  let at = 0;
  for (let i = 0; i < text.length; i++) {
    const formula = formulaAt(text, i);
    if (!formula) continue;
    if (i > at) yield text.slice(at, i);
    yield typeset(formula.source, formula.display);
    at = formula.end;
    i = at - 1;
  }
  if (at < text.length) yield text.slice(at);
}

let searched = { text: null }; // for each closing delimiter of this text: where the search began, and where it ended

/** The place of the next `close`. The last place is remembered, so that a page of opening delimiters is searched once. */
function nextEnd(text, from, close) {
  if (searched.text !== text) searched = { text };
  const known = searched[close];
  if (known && known.from <= from && from <= known.end) return known.end;
  const at = text.indexOf(close, from);
  return (searched[close] = { from, end: at < 0 ? Infinity : at }).end;
}

/** The formula that begins at this place of a text. A dollar sign beside a blank or before a figure is money. */
function formulaAt(text, at) {
  for (const [open, close, display] of DELIMITERS) {
    if (!text.startsWith(open, at)) continue;
    const from = at + open.length;
    const end = nextEnd(text, from, close);
    if (end - at > LONGEST_FORMULA) return null;
    const source = text.slice(from, end);
    return source.trim() ? { source, display, end: end + close.length } : null;
  }
  if (text[at] !== "$" || /\s|\$|^$/.test(text[at + 1] ?? "")) return null;
  for (let end = at + 2; end < Math.min(text.length, at + LONGEST_FORMULA); end++) {
    if (text[end] === "\\") end++;
    else if (text[end] === "\n") return null;
    else if (text[end] === "$") {
      if (/\s/.test(text[end - 1]) || /\d/.test(text[end + 1] ?? "")) return null;
      return { source: text.slice(at + 1, end), display: false, end: end + 1 };
    }
  }
  return null;
}

/** What of a text is no formula, piece by piece. */
function* outsideFormulas(text) {
  let from = 0;
  for (let at = 0; at < text.length; at++) {
    const formula = formulaAt(text, at);
    if (!formula) continue;
    yield text.slice(from, at);
    from = formula.end;
    at = from - 1;
  }
  yield text.slice(from);
}

function typeset(source, display) {
  const node = h("span", { class: display ? "math display" : "math", "data-source": source });
  try {
    katex.render(source, node, {
      displayMode: display,
      output: FORMULA_OUTPUT,
      throwOnError: true,
      strict: "ignore",
      trust: false,
      maxSize: 20,
      maxExpand: 200,
      // These two write a style attribute, which our Content-Security-Policy refuses.
      macros: { "\\pmb": "\\boldsymbol{#1}", "\\fcolorbox": "\\boxed{#3}" },
    });
  } catch {
    node.replaceChildren(h("code", {}, source));
  }
  return node;
}

function build(markdownit) {
  const md = markdownit({ html: false, linkify: false, typographer: false, breaks: true });
  md.disable(["image", "code"]); // pictures would be fetched from elsewhere; indented text is layout, not code

  md.inline.ruler.before("escape", "formula", (state, silent) => {
    const char = state.src[state.pos];
    if (char !== "\\" && char !== "$") return false;
    const formula = katex && formulaAt(state.src, state.pos);
    if (!formula) return false;
    if (!silent) state.push("formula", "", 0).meta = formula;
    state.pos = formula.end;
    return true;
  });
  md.block.ruler.before("fence", "formula_block", (state, start, _end, silent) => {
    const from = state.bMarks[start] + state.tShift[start];
    const opening = state.src.slice(from, from + 2);
    if (!katex || (opening !== "\\[" && opening !== "$$")) return false;
    const formula = formulaAt(state.src, from);
    if (!formula || !/^[ \t]*(\n|$)/.test(state.src.slice(formula.end, formula.end + 80))) return false;
    if (silent) return true;
    state.push("formula", "", 0).meta = formula;
    let line = start;
    while (line < state.lineMax && state.bMarks[line] < formula.end) line++;
    state.line = line;
    return true;
  }, { alt: ["paragraph"] });
  md.renderer.rules.formula = (tokens, index, _options, env) => {
    env.formulas.push(tokens[index].meta);
    return `<span data-math="${env.formulas.length - 1}"></span>`;
  };

  md.inline.ruler.before("html_inline", "bare_tag", (state, silent) => {
    if (state.src[state.pos] !== "<") return false;
    const rest = state.src.slice(state.pos, state.pos + 40);
    const figure = /^<!-- figure (\d{1,4}) -->/.exec(rest);
    const tag = /^<(\/?)([a-z]{1,6}) ?\/?>/i.exec(rest);
    const name = tag?.[2].toLowerCase();
    if (!figure && name !== "br" && !BARE_TAGS.includes(name)) return false;
    if (!silent) {
      const token = state.push("bare_tag", "", 0);
      token.meta = figure ? { figure: Number(figure[1]) } : { name, closes: tag[1] === "/" };
    }
    state.pos += (figure ?? tag)[0].length;
    return true;
  });
  md.renderer.rules.bare_tag = (tokens, index) => {
    const { figure, name, closes } = tokens[index].meta;
    if (figure !== undefined) return `<span data-figure="${figure}"></span>`;
    if (name === "br") return "<br>";
    if (name === "center") return closes ? "</span>" : '<span data-center="">';
    return `<${closes ? "/" : ""}${name}>`;
  };

  for (const rule of ["th_open", "td_open"]) {
    md.renderer.rules[rule] = (tokens, index) => {
      const align = /right|center/.exec(tokens[index].attrGet("style") ?? "");
      return `<${tokens[index].tag}${align ? ` data-align="${align[0]}"` : ""}>`;
    };
  }
  return md;
}

const BLOCKS = new Set(["P", "H1", "H2", "H3", "H4", "H5", "H6", "UL", "OL", "BLOCKQUOTE", "PRE", "HR", "DIV", "TABLE"]);

/** The text without Markdown: paragraphs apart, cells parted by tabs, formulas as they were written. */
export async function plain(text) {
  await prepare(text);
  const out = [];
  const walk = (node) => {
    // After a break, the line end of the source is the same break once more.
    if (node.nodeType === Node.TEXT_NODE) out.push((node.previousSibling?.nodeName === "BR" ? node.data.replace(/^\n/, "") : node.data).replace(/\n/g, " "));
    else if (node.dataset?.source !== undefined) out.push(node.dataset.source);
    else if (node.tagName === "BR") out.push("\n");
    else if (node.tagName === "TABLE") {
      for (const row of node.rows) out.push([...row.cells].map((cell) => cell.textContent.trim()).join("\t"), "\n");
      out.push("\n");
    } else {
      if (node.tagName === "LI") out.push(node.parentNode.tagName === "OL" ? `${[...node.parentNode.children].indexOf(node) + 1}. ` : "- ");
      node.childNodes.forEach(walk);
      if (node.tagName === "LI") out.push("\n");
      else if (BLOCKS.has(node.tagName)) out.push("\n\n");
    }
  };
  render(text).childNodes.forEach(walk);
  return out.join("").replace(/[ \t]+\n/g, "\n").replace(/\n{3,}/g, "\n\n").trim();
}

const LETTER = /[\p{L}\p{N}]/u;
const SOON = 600; // letters: a block that follows stands near the last one

/**
 * Wraps what each block says in spans with `data-block`, so that boxes and text can light up together.
 *
 * Only letters and digits are compared: layout, Markdown and hyphens differ between a block and the text.
 * Blocks that are not found stay linked through the list of lines.
 */
export function linkBlocks(root, blocks) {
  const nodes = [];
  const where = []; // for each letter: index into nodes, offset in that node
  let letters = "";
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT, (node) =>
    node.parentElement?.closest(".math, figure") ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT,
  );
  while (walker.nextNode()) {
    const node = walker.currentNode;
    nodes.push({ node, parts: [] });
    let offset = 0;
    for (const char of node.data) {
      if (LETTER.test(char)) {
        for (let unit = 0; unit < char.length; unit++) where.push([nodes.length - 1, offset + unit]);
        letters += char;
      }
      offset += char.length;
    }
  }
  const taken = new Uint8Array(letters.length);
  let cursor = 0;
  const place = (wanted, index) => {
    let at = letters.indexOf(wanted, cursor);
    if (at < 0 || at > cursor + SOON) {
      let other = letters.indexOf(wanted);
      while (other >= 0 && taken[other]) other = letters.indexOf(wanted, other + 1);
      if (at < 0 || (other >= 0 && Math.abs(other - cursor) < at - cursor)) at = other;
    }
    if (at < 0 || taken.subarray(at, at + wanted.length).includes(1)) return;
    taken.fill(1, at, at + wanted.length);
    cursor = at + wanted.length;
    for (let i = at; i < cursor; ) {
      const [inNode, start] = where[i];
      let end = start;
      while (i < cursor && where[i][0] === inNode) end = where[i++][1] + 1;
      nodes[inNode].parts.push({ start, end, index });
    }
  };
  blocks.forEach((block, index) => {
    // Formulas look different once they are set: what stands between them is looked for.
    for (const piece of outsideFormulas(block.text.replace(/<[^<>]*>/g, " "))) {
      const wanted = [...piece].filter((char) => LETTER.test(char)).join("");
      if (wanted) place(wanted, index);
    }
  });
  for (const { node, parts } of nodes) {
    if (!parts.length) continue;
    parts.sort((a, b) => a.start - b.start);
    const pieces = [];
    let at = 0;
    parts.forEach(({ start, end, index }, n) => {
      // Up to the blank: a full stop belongs to its sentence.
      const limit = parts[n + 1]?.start ?? node.data.length;
      while (end < limit && !/\s/.test(node.data[end])) end++;
      if (start > at) pieces.push(node.data.slice(at, start));
      pieces.push(h("span", { class: "bit", "data-block": String(index) }, node.data.slice(start, end)));
      at = end;
    });
    if (at < node.data.length) pieces.push(node.data.slice(at));
    node.replaceWith(...pieces);
  }
}
