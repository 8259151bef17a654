// The text of a file on the page: cancelled, tried again, and saved in the forms that people need.

import { api } from "./api.js";
import { announce, h, icon, menu, saveFile, toast } from "./dom.js";
import { remedyOf, titleOf } from "./errors.js";
import { t } from "./i18n.js";
import { plain } from "./markdown.js";
import { TextPane } from "./text.js";

export class ResultPane extends TextPane {
  /** Events beside those of the text: `cancel` with the item. */
  constructor(root) {
    super(root);
    this.doneItems = () => [];
  }

  moreActions() {
    const save = h("button", { type: "button", class: "quiet small" }, icon("download"), h("span", {}, t("download")));
    return menu(save, () => this.saves());
  }

  canRetry(item) {
    return item.error?.code !== "too_large_here";
  }

  ready() {
    return h("div", { class: "calm" }, h("p", {}, t("readyHint")), h("p", { class: "muted small-text" }, h("kbd", {}, /Mac|iP/.test(navigator.platform) ? "⌘" : "Ctrl"), " ", h("kbd", {}, "Enter")));
  }

  workingActions() {
    return this.button("close", t("cancel"), "cancel", "plain small");
  }

  saves() {
    const one = this.item;
    const all = this.doneItems();
    const stem = stemOf(one.name);
    const kinds = (items, name) => [
      { text: "Markdown", hint: ".md", act: () => saveText(items.map((item) => item.result.text).join("\n\n"), `${name}.md`) },
      { text: t("save.txt"), hint: ".txt", act: async () => saveText(await plainOf(items), `${name}.txt`) },
      { text: "JSON", hint: ".json", act: () => saveText(JSON.stringify(items.length > 1 ? items.map((item) => ({ file: item.name, ...item.result })) : items[0].result, null, 2), `${name}.json`, "application/json") },
    ];
    const list = kinds([one], stem);
    list.push({ text: t("save.docx"), hint: ".docx", act: () => this.export("docx", one, stem) });
    if (one.result.pages.some((page) => page.blocks?.length)) list.push({ text: t("save.pdf"), hint: ".pdf", act: () => this.export("pdf", one, stem) });
    if (all.length > 1) list.push({ heading: t("save.all", { n: all.length }) }, ...kinds(all, "ocr"));
    return list;
  }

  async export(format, item, stem) {
    announce(t("saving"));
    try {
      const blob = await (format === "docx" ? api.exportDocx(item.result, stem) : api.exportPdf(item.file, item.result, stem));
      saveFile(blob, format === "pdf" ? `${stem}-searchable.pdf` : `${stem}.docx`);
    } catch (error) {
      toast(`${titleOf(error)} ${remedyOf(error)}`, "bad");
    }
  }
}

const stemOf = (name) => name.replace(/\.[^.]{1,5}$/, "") || "page";

function saveText(text, name, type = "text/plain") {
  saveFile(new Blob([text.endsWith("\n") ? text : `${text}\n`], { type: `${type};charset=utf-8` }), name);
}

async function plainOf(items) {
  const parts = [];
  for (const { result } of items) {
    for (const page of result.pages) if (page.text) parts.push(result.markdown ? await plain(page.text) : page.text);
  }
  return parts.join("\n\n");
}
