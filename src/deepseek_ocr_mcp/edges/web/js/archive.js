// What is kept in this browser until it is cleared: the files, their results and their order. Nothing leaves the
// browser for it. Where the browser keeps nothing, or the reader wants nothing kept, the page works without.

import { memory } from "./dom.js";
import { Item } from "./queue.js";

const DATABASE = "ocr";
const STORE = "items";
const VERSION = 1;
const FIELDS = ["id", "name", "file", "count", "page", "pages", "result", "asked", "document", "edits"];

const done = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

export class Archive extends EventTarget {
  /** Event: `full`, once: the browser gives no more room. */
  constructor() {
    super();
    this.database = null;
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

  async open() {
    if (this.database) return this.database;
    const request = indexedDB.open(DATABASE, VERSION);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
    this.database = await done(request);
    this.database.onversionchange = () => (this.database.close(), (this.database = null));
    return this.database;
  }

  async run(mode, work) {
    try {
      const transaction = (await this.open()).transaction(STORE, mode);
      return await work(transaction.objectStore(STORE));
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
    const kept = (await this.run("readonly", (store) => done(store.getAll()))) ?? [];
    return kept.sort((a, b) => a.order - b.order).map((entry) => this.restored(entry));
  }

  restored(entry) {
    const item = new Item(entry.file, entry.name);
    for (const field of FIELDS) if (entry[field] !== undefined) item[field] = entry[field];
    item.state = item.result ? "done" : "ready";
    if (entry.picture) item.previews.set(1, { ...entry.picture, url: URL.createObjectURL(entry.picture.blob), key: `${item.id}/1` });
    return item;
  }

  /** Keeps an item as it is now; many changes in a moment are written once. */
  keep(item, order) {
    if (!this.on) return;
    clearTimeout(this.waiting.get(item.id));
    this.waiting.set(item.id, setTimeout(() => {
      this.waiting.delete(item.id);
      const entry = Object.fromEntries(FIELDS.map((field) => [field, item[field]]));
      const picture = item.previews.get(1);
      if (picture) entry.picture = { blob: picture.blob, width: picture.width, height: picture.height, side: picture.side };
      this.run("readwrite", (store) => done(store.put({ ...entry, order: order() })));
    }, 50)); // ms
  }

  forget(item) {
    clearTimeout(this.waiting.get(item.id));
    this.waiting.delete(item.id);
    return this.run("readwrite", (store) => done(store.delete(item.id)));
  }

  clear() {
    for (const timer of this.waiting.values()) clearTimeout(timer);
    this.waiting.clear();
    return this.run("readwrite", (store) => done(store.clear()));
  }
}
