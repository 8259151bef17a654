// Errors in the reader's language: in English the server's own words, in other languages a sentence for each code.

import { h, icon } from "./dom.js";
import { has, language, t } from "./i18n.js";
import { inWords } from "./server.js";

export const titleOf = (error) => {
  const known = error.message && inWords(error.message);
  if (known) return known;
  if (has(`error.${error.code}`) && (language() !== "en" || !error.message)) return t(`error.${error.code}`, error.values ?? {});
  return error.message || t("error.internal");
};

export const remedyOf = (error) => {
  if (has(`remedy.${error.code}`) && (language() !== "en" || !error.remedy)) return t(`remedy.${error.code}`, error.values ?? {});
  return error.remedy || t("remedy.internal");
};

/** A box with the error, its remedy and buttons. */
export function errorBox(error, ...actions) {
  const translated = language() !== "en" && error.message;
  return h("div", { class: "error-box" },
    icon("alert"),
    h("div", {},
      h("h3", {}, titleOf(error)),
      h("p", {}, remedyOf(error)),
      translated && h("details", {}, h("summary", {}, t("serverSays")), h("p", { lang: "en" }, `${error.message} ${error.remedy}`)),
      actions.length > 0 && h("div", { class: "actions" }, actions),
    ),
  );
}
