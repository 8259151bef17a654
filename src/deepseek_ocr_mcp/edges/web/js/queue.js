// The files, their order and their reading. Each file is sent once; later requests give its name. Two files are read
// at a time, and one is sent. When a lost server is back, the readings that it cut off begin again; pages that were
// read before stay.

import { ApiError, answers, api, connection, gone, isGone } from "./api.js";
import { ACTIVE } from "./states.js";
import { PREVIEW_SIDE } from "./viewer.js";

const AT_ONCE = 2;
const PREVIEWS_AT_ONCE = 2;
export const THUMB_SIDE = 160; // px: of the pages in the strip
const FULL_RETRIES = 20; // of a request that was told to come again: the queue is full, the model is being loaded
const CUT_RETRIES = 3;
const COME_AGAIN_S = 5; // where the server names no time
const KEPT_PREVIEWS = 24; // pictures of about 300 kB
const PACE_AFTER_S = 1.5; // before that, the seconds left would be a guess

let ids = 0;
const newId = () => `${Date.now().toString(36)}-${++ids}-${Math.random().toString(36).slice(2, 8)}`;

/** The progress of a piece of work, and the seconds that are left. */
export class Pace {
  constructor() {
    this.began = performance.now();
    this.first = null;
    this.done = 0;
  }

  /** `done`: from 0 to 1. */
  at(done) {
    this.first ??= { done, at: performance.now() };
    this.done = done;
  }

  get left() {
    const passed = (performance.now() - (this.first?.at ?? 0)) / 1000;
    const gained = this.done - (this.first?.done ?? 0);
    return this.first && passed >= PACE_AFTER_S && gained > 0 ? (passed * (1 - this.done)) / gained : null;
  }
}

export class Item {
  constructor(file, name = file.name) {
    this.id = newId();
    this.file = file;
    this.name = name;
    /** ready · waiting (for its turn here) · sending · queued (there) · reading · later (told to come again) · cut · done · error · cancelled */
    this.state = "ready";
    this.count = 0;
    this.page = 1;
    this.pages = "";
    this.previews = new Map();
    this.previewErrors = new Map();
    this.thumbs = new Map();
    this.turns = new Map();
    this.result = null;
    /** The pages that are there while the others are being read, in the form of a result. */
    this.partial = null;
    this.error = null;
    this.progress = null;
    this.pace = null;
    this.position = 0;
    this.tries = this.cuts = 0;
    /** The name that the server knows the file by; "": it was not sent, or is not kept any more. */
    this.document = "";
    this.upload = { place: "", at: 0 };
    this.sent = 0;
    /** Of a locked PDF; it is written down nowhere. */
    this.password = "";
  }

  /** Whether the server asks for its password. */
  get locked() {
    return [this.error, ...this.previewErrors.values()].some((error) => error?.code === "password_needed");
  }

  /** Whether the server need not be asked: it would refuse the file for its size. */
  get unsendable() {
    return ["empty_here", "too_large_here"].includes(this.error?.code);
  }

  /** What there is to show: the answer, or the pages that are read so far. */
  get answer() {
    return this.state === "done" ? this.result : ACTIVE.has(this.state) ? this.partial : null;
  }

  /** The page of the answer that is shown, if it was read. */
  get read() {
    return this.answer?.pages.find((page) => page.page === this.page);
  }

  get fraction() {
    if (this.state === "done") return 1;
    if (this.state === "sending") return this.file.size ? this.sent / this.file.size : 0;
    return this.progress ? this.progress.done / this.progress.total : 0;
  }
}

/** Resolves as the promise does, or fails when the signal says stop; the promise goes on. */
function abortable(promise, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => reject(new DOMException("stopped", "AbortError"));
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    promise.then(resolve, reject);
  });
}

export class Queue extends EventTarget {
  /** Events: `list` (files came, went or moved), `item`, `page` and `preview` with the item. `fields(item)` gives a request's fields. */
  constructor(fields) {
    super();
    this.items = [];
    this.fields = fields;
    this.previewing = 0;
    this.wanted = [];
    this.sending = Promise.resolve();
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
      const item = new Item(file, file.shownName ?? file.name);
      const code = !file.size ? "empty_here" : limitMb && file.size > limitMb * 2 ** 20 ? "too_large_here" : "";
      if (code) {
        item.state = "error";
        item.error = new ApiError({ code });
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

  /** Items as they were before the page was loaded. */
  restore(items) {
    this.items.push(...items);
    this.tell("list");
  }

  remove(item) {
    this.cancel(item);
    item.sender?.abort();
    if (item.document) api.forget(item.document);
    Object.assign(item, { document: "", upload: { place: "", at: 0 }, sent: 0 }); // it may come back
    this.items = this.items.filter((other) => other !== item);
    for (const preview of [...item.previews.values(), ...item.thumbs.values()]) URL.revokeObjectURL(preview.url);
    item.previews.clear();
    item.thumbs.clear();
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

  // -- sending

  /** The name of the item's document; it is sent before, where the server does not have it. One file is sent at a time. */
  send(item) {
    if (item.document) return Promise.resolve(item.document);
    item.uploading ??= this.upload(item).finally(() => (item.uploading = null));
    return item.uploading;
  }

  async upload(item) {
    if (!item.file.size) throw new ApiError({ code: "unreadable_input" }); // an empty file is no page, and a folder has no bytes
    const before = this.sending;
    let done;
    this.sending = new Promise((resolve) => (done = resolve));
    await before;
    try {
      item.sender = new AbortController();
      item.sendPace = new Pace();
      for (let cuts = 0; ; cuts++) {
        try {
          const onSent = (sent) => {
            item.sent = Math.min(sent, item.file.size);
            item.sendPace.at(item.file.size ? item.sent / item.file.size : 1);
            this.tell("item", item);
          };
          const document = await api.upload(item.file, item.upload, { onSent, signal: item.sender.signal });
          if (item.password) await api.unlock(document, item.password);
          return (item.document = document);
        } catch (error) {
          if (error.code === "queue_full" && cuts < FULL_RETRIES) await new Promise((resolve) => setTimeout(resolve, (error.retryAfter ?? COME_AGAIN_S) * 1000));
          else if (error.code !== "unreachable" || cuts >= CUT_RETRIES || !(await answers())) throw error;
        }
      }
    } finally {
      done();
    }
  }

  /** Calls `use` with the name of the item's document. If the server has dropped the document, sends it and calls again. */
  async withDocument(item, use) {
    const document = await this.send(item);
    try {
      return await use(document);
    } catch (error) {
      if (error.code !== "input_not_found") throw error;
      if (item.document === document) Object.assign(item, { document: "", upload: { place: "", at: 0 } });
      return use(await this.send(item));
    }
  }

  /** Opens a locked item, shows its picture, and reads it where that was asked for. Fails where the password is wrong. */
  async unlock(item, password) {
    await this.withDocument(item, (document) => api.unlock(document, password));
    item.password = password;
    for (const [page, error] of item.previewErrors) if (error.code === "password_needed") item.previewErrors.delete(page);
    this.preview(item, item.page);
    if (item.error?.code === "password_needed") this.start([item]);
    else this.tell("item", item);
  }

  // -- reading

  start(items) {
    for (const item of items) {
      if (!ACTIVE.has(item.state) && !item.unsendable) {
        this.set(item, "waiting", { error: null, progress: null, partial: null, position: 0, tries: 0, cuts: 0 });
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
    const { signal } = controller;
    const fields = this.fields(item);
    this.set(item, "sending", { progress: null, pace: null });
    try {
      await abortable(this.send(item), signal);
      const result = await this.withDocument(item, (document) =>
        api.read(document, fields, {
          signal,
          onQueued: (position) => this.set(item, "queued", { position }),
          onProgress: (progress) => {
            item.pace ??= new Pace();
            item.pace.at(progress.done / progress.total);
            this.set(item, "reading", { progress });
          },
          onPage: (page) => this.take(item, page),
        }),
      );
      item.count = result.page_count;
      if (!result.pages.some((page) => page.page === item.page)) item.page = result.pages[0]?.page ?? 1;
      this.set(item, "done", { result, partial: null, error: null, progress: null });
    } catch (error) {
      await this.failed(item, error, controller);
    } finally {
      if (item.controller === controller) item.controller = null;
      this.pump();
    }
  }

  /** A page that is read while others are not. */
  take(item, page) {
    item.partial ??= { pages: [], mode: item.asked?.mode ?? "", markdown: item.asked?.markdown ?? false, notes: [], timing: {} };
    // A reading that begins again, because the server was gone, gives pages that are here already.
    const others = item.partial.pages.filter((each) => each.page !== page.page);
    item.partial.pages = (page.finish === "failed" ? others : [...others, page]).sort((a, b) => a.page - b.page);
    item.partial.text = item.partial.pages.map((each) => each.text).filter(Boolean).join("\n\n");
    this.tell("page", item);
  }

  /** The pages that were read before the reading was stopped, as an answer that says so. */
  kept(item) {
    const { pages } = item.partial;
    const note = { code: "stopped_here", text: "", pages: "" };
    const facts = { page_count: item.count || pages.at(-1).page, engine: "", model: "", device: "", timing: { load_s: 0, infer_s: 0, total_s: 0 } };
    return { ...item.partial, ...facts, notes: [note], partial: true };
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

  /** Stops the reading. The pages that are read stay. */
  cancel(item) {
    if (!ACTIVE.has(item.state)) return;
    clearTimeout(item.timer);
    item.controller?.abort();
    const result = item.partial?.pages.length ? this.kept(item) : item.result;
    this.set(item, result ? "done" : "cancelled", { result, partial: null, error: null, progress: null });
  }

  resume() {
    // A reading that was cut off may not have ended yet: its own pump would come too early.
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
    const there = (side === THUMB_SIDE ? item.thumbs : item.previews).get(page);
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
    const into = side === THUMB_SIDE ? item.thumbs : item.previews;
    try {
      const { blob, width, height, count } = await this.withDocument(item, (document) => api.preview(document, page, side));
      if (this.items.includes(item)) {
        const old = into.get(page);
        if (old) URL.revokeObjectURL(old.url);
        into.delete(page);
        into.set(page, { url: URL.createObjectURL(blob), blob, width, height, side, key: `${item.id}/${page}` });
        item.count = count;
        this.forget(item);
      }
    } catch (error) {
      if (error.code === "queue_full" && tries < FULL_RETRIES) {
        setTimeout(() => this.items.includes(item) && this.preview(item, page, side, tries + 1), (error.retryAfter ?? COME_AGAIN_S) * 1000);
        return;
      }
      // A picture that cannot be drawn larger is still there as it was.
      if (error.name !== "AbortError" && !into.has(page)) item.previewErrors.set(page, error);
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
