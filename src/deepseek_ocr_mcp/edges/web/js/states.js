// The states of a file on its way to its text, and the phrases for them.

import { number, seconds, t } from "./i18n.js";

export const ACTIVE = new Set(["waiting", "sending", "queued", "reading", "later", "cut"]);

/** The notes that say that something is missing from an answer: such a file has no plain tick. */
const LACKING = new Set(["page_failed", "not_read", "stopped", "stopped_here", "no_text_layer", "layer_incomplete", "cut"]);

export const lacks = (result) => Boolean(result?.partial) || (result?.notes ?? []).some((note) => LACKING.has(note.code));

const withLeft = (text, pace) => (pace && pace.left !== null ? `${text} · ${t("left", { s: seconds(Math.max(1, Math.round(pace.left))) })}` : text);

/** How much of the file has been sent. */
export const sent = (item) => withLeft(t("doing.sent", { part: number(item.file.size ? item.sent / item.file.size : 0, { style: "percent", maximumFractionDigits: 0 }) }), item.sendPace);

/** The step in which this file is, as a phrase. */
export function doing(item) {
  switch (item.state) {
    case "waiting":
      return t("doing.waiting");
    case "sending":
      return item.sent ? sent(item) : t("doing.sending");
    case "queued":
      return item.position > 0 ? t("doing.queued", { n: item.position }) : t("doing.next");
    case "later":
      return t(item.error?.code === "not_ready" ? "doing.notReady" : "doing.full", { s: seconds(Math.max(1, Math.ceil((item.again - Date.now()) / 1000))) });
    case "cut":
      return t("doing.cut");
    case "reading": {
      const { done, total, message } = item.progress;
      if (/^loading/.test(message ?? "")) return t("doing.loading");
      const page = Math.min(total, Math.floor(done) + 1);
      return withLeft(total > 1 ? t("doing.page", { page, count: total }) : t("doing.reading"), item.pace);
    }
    default:
      return "";
  }
}
