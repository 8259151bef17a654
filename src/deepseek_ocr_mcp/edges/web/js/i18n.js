// Every word of the page, in the reader's language. A key that a language lacks is shown in English.

import { LANGUAGES } from "../lang/index.js";
import english from "../lang/en.js";
import { $, memory } from "./dom.js";
import { words as load } from "./load.js";

let code = "en";
let words = english;
let engineTitles = {};

export const language = () => code;

/** The text of a key. An object of plural forms is chosen by `values.n`; `{name}` is replaced. */
export function t(key, values = {}) {
  let text = words[key] ?? english[key] ?? key;
  if (typeof text === "object") text = text[new Intl.PluralRules(code).select(values.n)] ?? text.other;
  return text.replace(/\{(\w+)\}/g, (whole, name) => {
    const value = values[name];
    return value === undefined ? whole : typeof value === "number" ? number(value) : value;
  });
}

export const has = (key) => key in english;

export const number = (value, options = {}) => new Intl.NumberFormat(code, { maximumFractionDigits: 1, ...options }).format(value);

/** Seconds; from two minutes on as on a clock. */
export const seconds = (value) =>
  value >= 120 ? `${Math.floor(value / 60)}:${String(Math.floor(value % 60)).padStart(2, "0")}` : t("seconds", { s: number(value, { maximumFractionDigits: value < 10 ? 1 : 0 }) });

/** Bytes, in the unit that people say. */
export function size(bytes) {
  const [value, unit] = bytes < 1e6 ? [bytes && Math.max(1, Math.round(bytes / 1e3)), "kilobyte"] : [bytes / 1e6, "megabyte"];
  return new Intl.NumberFormat(code, { style: "unit", unit, unitDisplay: "short", maximumFractionDigits: value < 10 ? 1 : 0 }).format(value);
}

/** MiB, as the graphics cards count. */
export function mebibytes(mb) {
  return mb < 1024 ? `${number(mb, { maximumFractionDigits: 0 })} MiB` : `${number(mb / 1024, { maximumFractionDigits: 1 })} GiB`;
}

/** Takes the names of the engines for people, which the server knows. */
export function setEngineTitles(titles) {
  engineTitles = titles;
}

/** An engine's name as its makers write it. */
export const engineName = (engine) => engineTitles[engine] ?? engine;

/** The first of these languages that the page speaks. */
export function spoken(languages) {
  for (const language of languages) {
    if (/^zh\b.*\b(hant|tw|hk|mo)\b/i.test(language)) return "zh-TW";
    const found = Object.keys(LANGUAGES).find((known) => known === language || known.split("-")[0] === language.split("-")[0]);
    if (found) return found;
  }
  return "en";
}

/** Fills what stands in the HTML: `data-t` is the text, `data-t-label` the accessible name, `data-t-placeholder` what a field shows while it is empty. */
export function translate(root = document) {
  for (const node of root.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of root.querySelectorAll("[data-t-label]")) {
    node.setAttribute("aria-label", t(node.dataset.tLabel));
    if (node.matches("button")) node.title = t(node.dataset.tLabel);
    else if (node.closest(".toggle")) node.closest(".toggle").title = t(node.dataset.tLabel);
  }
  for (const node of root.querySelectorAll("[data-t-placeholder]")) node.placeholder = t(node.dataset.tPlaceholder);
}

function preferred() {
  const remembered = memory.get("language");
  return remembered in LANGUAGES ? remembered : spoken(navigator.languages ?? [navigator.language]);
}

export async function speak(chosen) {
  words = chosen === "en" ? english : await load(chosen);
  code = chosen;
  document.documentElement.lang = chosen;
  translate();
  document.title = t("title");
  delete document.documentElement.dataset.hold;
}

/** Called once; `changed` after every later choice. */
export async function startLanguage(changed) {
  const select = $("#language");
  for (const [value, name] of Object.entries(LANGUAGES)) {
    const option = new Option(name, value);
    option.lang = value;
    select.add(option);
  }
  await speak(preferred());
  select.value = code;
  select.addEventListener("change", async () => {
    memory.set("language", select.value);
    await speak(select.value);
    changed();
  });
}
