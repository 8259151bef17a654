// The states of a file on its way to its text, and what is said of them.

import { seconds, t } from "./i18n.js";

export const ACTIVE = new Set(["waiting", "sending", "queued", "reading", "later", "cut"]);

/** What is being done for this file, in a phrase. */
export function doing(item) {
  switch (item.state) {
    case "waiting":
      return t("doing.waiting");
    case "sending":
      return t("doing.sending");
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
      return total > 1 ? t("doing.page", { page, count: total }) : t("doing.reading");
    }
    default:
      return "";
  }
}
