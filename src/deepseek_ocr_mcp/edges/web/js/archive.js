// Keeps the files, their results and their order in this browser until the reader clears them. Nothing leaves the
// browser for it. The page also works where the browser stores nothing, or the reader wants nothing stored.
//
// Pages are kept one by one: a long result that is written or read at once would stop the page for a moment.

import { memory } from "./dom.js";
import { Item } from "./queue.js";

const DATABASE = "ocr";
const VERSION = 1;
const ITEMS = "items";
const PAGES = "pages";
const AT_ONCE = 10; // pages that are read at once: some 300 kB
const FIELDS = ["id", "name", "file", "count", "page", "pages", "asked", "document"];

const done = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** The pages of an item after a page of it. */
const pagesOf = (id, after = 0) => IDBKeyRange.bound([id, after], [id, Infinity], true);

export class Archive extends EventTarget {
  /** Event: `full`, once: the browser gives no more room. */
  constructor() {
    super();
    this.opened = null;
    this.waiting = new Map();
    this.told = false;
  }

  get on() {
    return memory.get("keep") !== "no";
  }

  /** Keeps from now on, or forgets all that was kept. */
  async turn(on) {
    memory.set("keep", on ? null : "no");
    if (!on) await this.clear();
  }

  open() {
    const request = indexedDB.open(DATABASE, VERSION);
    request.onupgradeneeded = () => {
      request.result.createObjectStore(ITEMS, { keyPath: "id" });
      request.result.createObjectStore(PAGES);
    };
    this.opened ??= done(request);
    return this.opened;
  }

  /** The result of `work(store)`; null if the browser cannot store. */
  async run(name, mode, work) {
    try {
      return await work((await this.open()).transaction(name, mode).objectStore(name));
    } catch (error) {
      if (error?.name === "QuotaExceededError" && !this.told) {
        this.told = true;
        this.dispatchEvent(new Event("full"));
      }
      return null;
    }
  }

  /** The items that were kept, in their order. */
  async items() {
    if (!this.on) return [];
    const kept = (await this.run(ITEMS, "readonly", (store) => done(store.getAll()))) ?? [];
    const items = [];
    for (const entry of kept.sort((a, b) => a.order - b.order)) items.push(await this.restored(entry));
    return items;
  }

  async restored(entry) {
    const item = new Item(entry.file, entry.name);
    for (const field of FIELDS) item[field] = entry[field];
    const pages = entry.result ? await this.pages(entry.id) : [];
    if (pages.length) {
      const text = pages.map((page) => page.text).filter(Boolean).join("\n\n");
      item.result = item.written = { ...entry.result, pages, text };
    }
    item.state = item.result ? "done" : "ready";
    if (entry.picture) item.previews.set(1, { ...entry.picture, url: URL.createObjectURL(entry.picture.blob), key: `${item.id}/1` });
    return item;
  }

  async pages(id) {
    const pages = [];
    for (;;) {
      const some = await this.run(PAGES, "readonly", (store) => done(store.getAll(pagesOf(id, pages.at(-1)?.page), AT_ONCE)));
      if (!some?.length) return pages;
      pages.push(...some);
    }
  }

  /** Stores an item. Many changes in a moment are written once. `page`: the page whose text was changed. */
  keep(item, order, page = null) {
    if (!this.on) return;
    const wait = this.waiting.get(item.id) ?? { timer: 0, pages: new Set() };
    if (page) wait.pages.add(page);
    clearTimeout(wait.timer);
    wait.timer = setTimeout(() => {
      this.waiting.delete(item.id);
      this.write(item, order, wait.pages);
    }, 50); // ms
    this.waiting.set(item.id, wait);
  }

  async write(item, order, changed) {
    const { result } = item;
    const entry = Object.fromEntries(FIELDS.map((field) => [field, item[field]]));
    const picture = item.previews.get(1);
    if (picture) entry.picture = { blob: picture.blob, width: picture.width, height: picture.height, side: picture.side };
    if (result) entry.result = { ...result, pages: [], text: "" };
    await this.run(ITEMS, "readwrite", (store) => done(store.put({ ...entry, order: order() })));
    const fresh = result && item.written !== result;
    if (fresh) await this.run(PAGES, "readwrite", (store) => done(store.delete(pagesOf(item.id))));
    for (const page of fresh ? result.pages : changed) {
      if (order() < 0) return; // it was removed meanwhile
      await this.run(PAGES, "readwrite", (store) => done(store.put(page, [item.id, page.page])));
    }
    if (fresh) item.written = result;
  }

  async forget(item) {
    clearTimeout(this.waiting.get(item.id)?.timer);
    this.waiting.delete(item.id);
    await this.run(ITEMS, "readwrite", (store) => done(store.delete(item.id)));
    await this.run(PAGES, "readwrite", (store) => done(store.delete(pagesOf(item.id))));
  }

  async clear() {
    for (const { timer } of this.waiting.values()) clearTimeout(timer);
    this.waiting.clear();
    for (const name of [ITEMS, PAGES]) await this.run(name, "readwrite", (store) => done(store.clear()));
  }
}
