// The files, their order and their reading. A file is read by one request; two are under way at a time, so that the
// next is uploaded while one is read. What a lost server cut off is read again when the server is back.

import { ApiError, answers, api, connection, gone, isGone } from "./api.js";
import { ACTIVE } from "./states.js";

const AT_ONCE = 2;
const PREVIEWS_AT_ONCE = 2;
const PREVIEW_SIDE = 1600; // px: sharp on a large screen; also the thumbnail
export const SHARP_SIDE = 2400; // px: what the server draws at most
const FULL_RETRIES = 20; // of a request that was told to come again: the queue is full, the model is being loaded
const CUT_RETRIES = 3;
const COME_AGAIN_S = 5; // where the server names no time
const KEPT_PREVIEWS = 24; // pictures of about 300 kB

let ids = 0;

export class Item {
  constructor(file, name = file.name) {
    this.id = ++ids;
    this.file = file;
    this.name = name;
    /** ready · waiting (for its turn here) · sending · queued (there) · reading · later (told to come again) · cut · done · error · cancelled */
    this.state = "ready";
    this.count = 0;
    this.page = 1;
    this.pages = "";
    this.previews = new Map();
    this.previewErrors = new Map();
    this.result = null;
    this.error = null;
    this.progress = null;
    this.position = 0;
    this.tries = this.cuts = 0;
  }

  /** The page of the answer that is shown, if it was read. */
  get read() {
    return this.result?.pages.find((page) => page.page === this.page);
  }

  get fraction() {
    if (this.state === "done") return 1;
    return this.progress ? this.progress.done / this.progress.total : 0;
  }
}

export class Queue extends EventTarget {
  /** Events: `list` (files came, went or moved), `item` and `preview` with the item. `fields(item)` gives a request's fields. */
  constructor(fields) {
    super();
    this.items = [];
    this.fields = fields;
    this.previewing = 0;
    this.wanted = [];
    connection.addEventListener("back", () => this.resume());
  }

  tell(type, item) {
    this.dispatchEvent(new CustomEvent(type, { detail: item }));
  }

  set(item, state, changes = {}) {
    Object.assign(item, changes, { state });
    this.tell("item", item);
  }

  add(files, limitMb) {
    const added = files.map((file) => {
      const item = new Item(file, file.name);
      if (limitMb && file.size > limitMb * 2 ** 20) {
        item.state = "error";
        item.error = new ApiError({ code: "too_large_here", limit: limitMb });
        item.error.values = { mb: limitMb };
        item.previewErrors.set(1, item.error);
      }
      return item;
    });
    this.items.push(...added);
    this.tell("list");
    for (const item of added) if (!item.error) this.preview(item, 1);
    return added;
  }

  remove(item) {
    this.cancel(item);
    this.items = this.items.filter((other) => other !== item);
    for (const preview of item.previews.values()) URL.revokeObjectURL(preview.url);
    item.previews.clear();
    this.wanted = this.wanted.filter((job) => job.item !== item);
    this.tell("list");
  }

  move(item, by) {
    const from = this.items.indexOf(item);
    const to = Math.min(this.items.length - 1, Math.max(0, from + by));
    this.items.splice(from, 1);
    this.items.splice(to, 0, item);
    this.tell("list");
  }

  // -- reading

  start(items) {
    for (const item of items) {
      if (!ACTIVE.has(item.state) && item.error?.code !== "too_large_here") {
        this.set(item, "waiting", { error: null, progress: null, position: 0, tries: 0, cuts: 0 });
      }
    }
    this.pump();
  }

  pump() {
    if (isGone()) return;
    const busy = this.items.filter((item) => item.controller).length;
    const next = this.items.filter((item) => item.state === "waiting" && !item.controller).slice(0, Math.max(0, AT_ONCE - busy));
    for (const item of next) this.run(item);
  }

  async run(item) {
    const controller = (item.controller = new AbortController());
    this.set(item, "sending", { progress: null });
    try {
      const result = await api.read(item.file, this.fields(item), {
        signal: controller.signal,
        onQueued: (position) => this.set(item, "queued", { position }),
        onProgress: (progress) => this.set(item, "reading", { progress }),
      });
      item.count = result.page_count;
      if (!result.pages.some((page) => page.page === item.page)) item.page = result.pages[0]?.page ?? 1;
      this.set(item, "done", { result, error: null, progress: null });
    } catch (error) {
      await this.failed(item, error, controller);
    } finally {
      if (item.controller === controller) item.controller = null;
      this.pump();
    }
  }

  async failed(item, error, controller) {
    if (controller.signal.aborted || error.name === "AbortError") return;
    // A server that ends cancels what it reads, and says so before it goes.
    if (error.code === "cancelled" && !(await answers())) error = gone();
    if (controller.signal.aborted) return;
    if (error.code === "unreachable" && item.cuts < CUT_RETRIES) {
      item.cuts += 1;
      this.set(item, "cut", { progress: null });
    } else if ((error.code === "queue_full" || error.code === "not_ready") && item.tries < FULL_RETRIES) {
      item.tries += 1;
      const wait = error.retryAfter ?? COME_AGAIN_S;
      this.set(item, "later", { error, again: Date.now() + wait * 1000 });
      item.timer = setTimeout(() => {
        if (item.state !== "later") return;
        this.set(item, "waiting", { error: null });
        this.pump();
      }, wait * 1000);
    } else {
      this.set(item, "error", { error: error instanceof ApiError ? error : new ApiError({ code: "page_fault", message: String(error) }) });
    }
  }

  cancel(item) {
    if (!ACTIVE.has(item.state)) return;
    clearTimeout(item.timer);
    item.controller?.abort();
    this.set(item, item.result ? "done" : "cancelled", { error: null, progress: null });
  }

  resume() {
    // What was cut may still be unwinding: its own pump would come too early.
    setTimeout(() => {
      for (const item of this.items) if (item.state === "cut") this.set(item, "waiting");
      for (const item of this.items) {
        for (const [page, error] of item.previewErrors) {
          if (error.code !== "unreachable" && error.code !== "unauthorized") continue;
          item.previewErrors.delete(page);
          this.preview(item, page);
        }
      }
      this.pump();
    }, 0);
  }

  // -- pictures

  /** Asks for a picture of a page; `preview` is told when it is there. The page that is looked at comes first. */
  preview(item, page, side = PREVIEW_SIDE, tries = 0) {
    const there = item.previews.get(page);
    if (item.previewErrors.has(page) || (there && there.side >= side)) return;
    if (this.wanted.some((job) => job.item === item && job.page === page && job.side === side)) return;
    this.wanted.push({ item, page, side, tries });
    this.draw();
  }

  first(item, page) {
    const at = this.wanted.findIndex((job) => job.item === item && job.page === page && !job.running);
    if (at > 0) this.wanted.unshift(...this.wanted.splice(at, 1));
  }

  async draw() {
    const job = this.wanted.find((other) => !other.running);
    if (!job || this.previewing >= PREVIEWS_AT_ONCE) return;
    job.running = true;
    this.previewing += 1;
    const { item, page, side, tries } = job;
    try {
      const { blob, width, height, count } = await api.preview(item.file, page, side);
      if (this.items.includes(item)) {
        const old = item.previews.get(page);
        if (old) URL.revokeObjectURL(old.url);
        item.previews.delete(page);
        item.previews.set(page, { url: URL.createObjectURL(blob), width, height, side, key: `${item.id}/${page}` });
        item.count = count;
        this.forget(item);
      }
    } catch (error) {
      if (error.code === "queue_full" && tries < FULL_RETRIES) {
        setTimeout(() => this.items.includes(item) && this.preview(item, page, side, tries + 1), (error.retryAfter ?? COME_AGAIN_S) * 1000);
        return;
      }
      // A picture that cannot be drawn larger is still there as it was.
      if (!item.previews.has(page)) item.previewErrors.set(page, error);
    } finally {
      this.previewing -= 1;
      this.wanted = this.wanted.filter((other) => other !== job);
      this.tell("preview", item);
      this.draw();
    }
  }

  /** Keeps the pictures of this document few; the first is the thumbnail. */
  forget(item) {
    for (const [page, preview] of item.previews) {
      if (item.previews.size <= KEPT_PREVIEWS) return;
      if (page === 1 || page === item.page) continue;
      URL.revokeObjectURL(preview.url);
      item.previews.delete(page);
    }
  }
}
