// The text of a file on the page: cancelled, tried again, put right, and saved in the forms that people need.

import { api } from "./api.js";
import { announce, h, icon, iconButton, menu, saveFile, toast } from "./dom.js";
import { placed } from "./edited.js";
import { remedyOf, titleOf } from "./errors.js";
import { t } from "./i18n.js";
import { plain, prepare, render } from "./markdown.js";
import { asCsv, cells } from "./tables.js";
import { TextPane } from "./text.js";
import { zip } from "./zip.js";

const LETTER_REGIONS = new Set(["US", "CA", "MX", "PH", "CL", "CO", "VE", "CR", "GT", "PA", "SV", "NI", "DO", "PR"]);
const BOM = "\ufeff"; // without it, Excel takes a CSV for the code page of its country
const FROM_SERVER = [["html", "save.html"], ["docx", "save.docx"], ["pdf", "save.pdf"], ["xlsx", "save.xlsx"], ["hocr", "save.hocr"], ["xml", "save.alto"]];
const BOXED = new Set(["pdf", "hocr", "xml"]); // formats that need places of words
const OF_TABLES = new Set(["xlsx"]);
const OF_ALL = new Set(["docx", "pdf"]); // of several files in one

/** The paper of a Word document: that of the reader's country. */
const paper = () => (LETTER_REGIONS.has(new Intl.Locale(navigator.language).maximize().region) ? "letter" : "a4");

export class ResultPane extends TextPane {
  /** Events beside those of the text: `cancel` with the item; `unlock` with `{item, password, wrong}`: `wrong` shows an error. */
  constructor(root) {
    super(root);
    this.doneItems = () => [];
    /** Which formats the server makes. */
    this.formats = () => [];
    this.withDocument = (_item, _use) => Promise.reject(new Error("no queue"));
  }

  moreActions() {
    const save = h("button", { type: "button", class: "quiet small" }, icon("download"), h("span", {}, t("download")));
    this.editButton = iconButton("edit", t("edit"), () => this.edit(!this.editing), { "aria-pressed": "false" });
    return [this.editButton, menu(save, () => this.saves())];
  }

  painted() {
    this.editButton.hidden = this.item?.state !== "done" || !this.item.read;
    this.editButton.setAttribute("aria-pressed", String(this.editing));
  }

  canRetry(item) {
    return !item.unsendable;
  }

  failed(item) {
    return item.error.code === "password_needed" ? this.locked(item) : super.failed(item);
  }

  /** Asks for the password of a locked PDF. */
  locked(item) {
    const input = h("input", { type: "password", autocomplete: "off", spellcheck: "false", required: true, maxlength: "1000" });
    const wrong = h("p", { class: "wrong", role: "alert" });
    const button = h("button", { type: "submit", class: "primary" }, t("locked.open"));
    const submit = (event) => {
      event.preventDefault();
      if (button.getAttribute("aria-disabled") === "true") return;
      button.setAttribute("aria-disabled", "true");
      wrong.replaceChildren();
      const failed = (error) => {
        button.removeAttribute("aria-disabled");
        wrong.replaceChildren(error.code === "password_needed" ? t("locked.wrong") : `${titleOf(error)} ${remedyOf(error)}`);
        input.select();
      };
      this.send("unlock", { item, password: input.value, wrong: failed });
    };
    return h("form", { class: "locked-box", onsubmit: submit },
      icon("key"),
      h("h3", {}, t("error.password_needed")),
      h("label", { class: "field wide" }, h("span", {}, t("locked.label")), input),
      wrong,
      h("p", { class: "muted small-text" }, t("locked.kept")),
      h("div", { class: "actions" }, button),
    );
  }

  ready(item) {
    if (item.locked) return this.locked(item);
    return h("div", { class: "calm" }, h("p", {}, t("readyHint")), h("p", { class: "muted small-text" }, h("kbd", {}, /Mac|iP/.test(navigator.platform) ? "⌘" : "Ctrl"), " ", h("kbd", {}, "Enter")));
  }

  workingActions() {
    return this.button("close", t("cancel"), "cancel", "plain small");
  }

  saves() {
    const one = this.item;
    const all = this.doneItems();
    const list = this.kinds([one], stemOf(one.name));
    const made = this.formats();
    for (const [format, key] of this.madeOf(one)) {
      list.push({ text: t(key), hint: `.${format}`, act: () => this.saved(() => this.exported(format, [one]), fileOf(one, format)) });
    }
    list.push({ text: t("save.zip"), hint: ".zip", act: () => this.saved(() => this.everything([one]), `${stemOf(one.name)}.zip`) });
    if (all.length > 1) {
      list.push({ heading: t("save.all", { n: all.length }) }, ...this.kinds(all, "ocr"));
      for (const [format, key] of FROM_SERVER) {
        if (OF_ALL.has(format) && made.includes(format) && (!BOXED.has(format) || all.every(hasPlaces))) list.push({ text: t(key), hint: `.${format}`, act: () => this.saved(() => this.exported(format, all), `ocr.${format}`) });
      }
      list.push({ text: t("save.zip.all"), hint: ".zip", act: () => this.saved(() => this.everything(all), "ocr.zip") });
    }
    return list;
  }

  /** The formats that the server makes of this file, each with the key of its name. */
  madeOf(item) {
    const hasTables = this.hasTables([item]);
    return FROM_SERVER.filter(([format]) => this.formats().includes(format) && (hasTables || !OF_TABLES.has(format)) && (!BOXED.has(format) || hasPlaces(item)));
  }

  /** The formats that the page makes without the server. */
  kinds(items, name) {
    const list = [
      { text: "Markdown", hint: ".md", act: () => this.saved(async () => textBlob(markdownOf(items)), `${name}.md`) },
      { text: t("save.txt"), hint: ".txt", act: () => this.saved(async () => textBlob(await plainOf(items)), `${name}.txt`) },
      { text: "JSON", hint: ".json", act: () => this.saved(async () => textBlob(jsonOf(items), "application/json"), `${name}.json`) },
    ];
    if (this.hasTables(items)) list.push({ text: t("save.csv"), hint: ".csv", act: () => this.saved(async () => textBlob(BOM + (await csvOf(items)), "text/csv"), `${name}.csv`) });
    return list;
  }

  hasTables(items) {
    return items.some(({ answer }) => answer.markdown && answer.pages.some((page) => /^\s*\|.*\|\s*$|<table\b/im.test(page.text)));
  }

  async saved(make, name) {
    announce(t("saving"));
    try {
      saveFile(await make(), name);
    } catch (error) {
      toast(`${titleOf(error)} ${remedyOf(error)}`, "bad");
    }
  }

  /** The file that the server makes of these files; several become one, each under its name. */
  exported(format, items) {
    const given = { format, title: items.length > 1 ? "" : stemOf(items[0].name), mode: items[0].answer.mode, paper: paper() };
    if (BOXED.has(format)) return this.boxed(given, items);
    const pages = items.flatMap((item) => (items.length > 1 ? titled(item) : item.answer.pages)).map((page) => slim(page));
    return api.export({ ...given, pages });
  }

  /** The same for a format that keeps the places of words: edited words get the places of the words that they replace. */
  async boxed(given, items) {
    let homeless = 0;
    const parts = [];
    for (const item of items) {
      const pages = [];
      for (const page of item.answer.pages) {
        const found = page.original === undefined ? page : await edited(page, item.answer.markdown);
        homeless += found.homeless ?? 0;
        pages.push(slim(page, found.blocks));
      }
      parts.push(pages);
    }
    const file = await this.bound(given, items, parts);
    if (homeless) toast(t("edit.homeless", { n: homeless }), "bad");
    if (items.length > 1 && items.some((item) => item.password)) toast(t("save.unlocked"), "bad");
    return file;
  }

  async bound(given, items, parts) {
    if (given.format !== "pdf") return api.export({ ...given, pages: parts.flat() });
    if (items.length === 1) return this.withDocument(items[0], (document) => api.export({ ...given, document, pages: parts[0] }));
    const documents = [];
    for (const item of items) documents.push(await this.documentOf(item));
    return api.export({ ...given, parts: parts.map((pages, n) => ({ document: documents[n], pages })) });
  }

  /** The name of an item's document, which the server has. */
  documentOf(item) {
    return this.withDocument(item, async (document) => (await api.has(document), document));
  }

  /** A zip with each form of each file. */
  async everything(items) {
    const files = [];
    for (const item of items) {
      const stem = stemOf(item.name);
      files.push([`${stem}.md`, textBlob(markdownOf([item]))], [`${stem}.txt`, textBlob(await plainOf([item]))], [`${stem}.json`, textBlob(jsonOf([item]), "application/json")]);
      if (this.hasTables([item])) files.push([`${stem}.csv`, textBlob(BOM + (await csvOf([item])), "text/csv")]);
      for (const [format] of this.madeOf(item)) files.push([fileOf(item, format), await this.exported(format, [item])]);
    }
    return zip(files);
  }
}

const stemOf = (name) => name.replace(/^.*\//, "").replace(/\.[^.]{1,5}$/, "") || "page";

const fileOf = ({ name }, format) => `${stemOf(name)}${format === "pdf" ? "-searchable" : ""}.${format}`;

const textBlob = (text, type = "text/plain") => new Blob([text.endsWith("\n") ? text : `${text}\n`], { type: `${type};charset=utf-8` });

/** Characters of a file's name that Markdown would take for markup. */
const escaped = (name) => name.replace(/[\\`*_[\]<>#|]/g, "\\$&");

const markdownOf = (items) => (items.length > 1 ? items.map((item) => `# ${escaped(item.name)}\n\n${item.answer.text}`).join("\n\n") : items[0].answer.text);

const jsonOf = (items) => JSON.stringify(items.length > 1 ? items.map((item) => ({ file: item.name, ...item.answer })) : items[0].answer, null, 2);

/** A page with no more than an export needs: it is sent over the line. */
const slim = ({ page, text, width, height, turn }, blocks) => ({ page, text, width, height, turn, blocks });

const hasPlaces = (item) => item.answer.pages.some((page) => page.blocks?.some((block) => block.text));

/** The blocks of a page that was edited, with its words in their places, and how many words have none. */
async function edited({ text, original, blocks }, markdown) {
  const bare = async (given) => (markdown ? await plain(given) : given);
  return placed(blocks ?? [], await bare(original), await bare(text));
}

const titled = (item) => item.answer.pages.map((page, n) => (n ? page : { ...page, text: item.answer.markdown ? `# ${escaped(item.name)}\n\n${page.text}` : `${item.name}\n\n${page.text}` }));

async function plainOf(items) {
  const parts = [];
  for (const { name, answer: result } of items) {
    if (items.length > 1) parts.push(`== ${name} ==`);
    for (const page of result.pages) if (page.text) parts.push(result.markdown ? await plain(page.text) : page.text);
  }
  return parts.join("\n\n");
}

/** All tables, a blank line between two; of several files, each with its name above. */
async function csvOf(items) {
  const parts = [];
  for (const { name, answer: result } of items) {
    const tables = [];
    for (const page of result.pages) {
      await prepare(page.text);
      const rendered = h("div", {}, render(page.text));
      tables.push(...[...rendered.querySelectorAll("table")].map((table) => asCsv(cells(table))));
    }
    if (tables.length && items.length > 1) parts.push(asCsv([[name]]));
    parts.push(...tables);
  }
  return parts.join("\r\n\r\n");
}
