// The way to the server. An error that the server names, or no answer, is an ApiError with code, message and remedy; a
// request that the page ends itself is an AbortError. When the server does not answer, this module says so once, asks
// until the server answers again, and says so.

import { memory } from "./dom.js";

const HEALTH_EVERY_MS = 1500;
const HEALTH_TIMEOUT_MS = 4000;
const PIECE_BYTES = 2 ** 20; // of an upload: what is lost when the line breaks; proxies take as much without being told to
const PIECE_TYPE = "application/offset+octet-stream";

export class ApiError extends Error {
  constructor({ code = "internal", message = "", remedy = "" } = {}, status = 0, retryAfter = null) {
    super(message);
    Object.assign(this, { code, remedy, status, retryAfter });
  }
}

/** The file has changed on the disk, or is gone, since the reader chose it. */
const changed = (file) => Object.assign(new ApiError({ code: "file_changed" }), { values: { name: file.name } });

/** Events: `gone` when the server does not answer; `back` when it answers again, or when one answer was lost. */
export const connection = new EventTarget();
let watching = false;

const session = () => sessionStorage;
const hooks = { askToken: async () => false };
let declined = false; // the reader has closed the dialog: it opens again only for a request that the reader makes

export const token = {
  get: () => memory.get("token", session) ?? memory.get("token"),
  set(value, remember) {
    memory.set("token", value, session);
    memory.set("token", remember ? value : null);
  },
  /** `ask(again)` shows a dialog, or joins the one that is open, and returns whether a token was given. */
  onAsk: (ask) => (hooks.askToken = ask),
  /** The reader wants something from the server now: a dialog that was closed may be shown again. */
  wanted: () => (declined = false),
};

async function askToken(again) {
  if (declined) return false;
  const given = await hooks.askToken(again);
  declined = !given;
  return given;
}

export const isGone = () => watching;

/** Whether the server answers now. */
export async function answers() {
  try {
    return (await fetch("/health", { cache: "no-store", signal: AbortSignal.timeout(HEALTH_TIMEOUT_MS) })).ok;
  } catch {
    return false;
  }
}

export async function lost() {
  if (watching) return;
  watching = true;
  // One lost answer is no lost server.
  if (!(await answers())) {
    connection.dispatchEvent(new Event("gone"));
    do await new Promise((resolve) => setTimeout(resolve, HEALTH_EVERY_MS));
    while (!(await answers()));
  }
  watching = false;
  connection.dispatchEvent(new Event("back"));
}

export const gone = () => new ApiError({ code: "unreachable" });

const authorization = (used) => (used ? { Authorization: `Bearer ${used}` } : {});

/** `quiet`: the page asks by itself, and shows no dialog for the token. */
async function send(path, { quiet = false, ...options } = {}) {
  for (;;) {
    const used = token.get();
    const headers = { ...options.headers, ...authorization(used) };
    let response;
    try {
      response = await fetch(path, { cache: "no-store", credentials: "omit", ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      lost();
      throw gone();
    }
    if (response.ok) return response;
    const failure = await failed(response);
    if (response.status !== 401) throw failure;
    // Another request may have brought a token meanwhile.
    if (token.get() === used && (quiet || !(await askToken(Boolean(used))))) throw failure;
  }
}

/** Sends bytes and counts the bytes that have left, which `fetch` cannot do. Answers as `fetch` does. */
function put(method, path, headers, body, onSent, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    request.open(method, path);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => onSent(event.loaded));
    request.addEventListener("load", () => {
      const empty = request.status === 204;
      const headersOf = ["Location", "Upload-Offset", "Retry-After"].map((name) => [name, request.getResponseHeader(name)]);
      resolve(new Response(empty ? null : request.responseText, { status: request.status, headers: headersOf.filter(([, value]) => value !== null) }));
    });
    request.addEventListener("error", () => (lost(), reject(gone())));
    request.addEventListener("abort", () => reject(new DOMException("stopped", "AbortError")));
    request.addEventListener("loadend", () => signal?.removeEventListener("abort", stop));
    signal?.addEventListener("abort", stop);
    request.send(body);
  });
}

/** One piece of an upload, from a byte on; the token is asked for where it is needed. */
async function sendPiece(file, place, from, { onSent, signal }) {
  const piece = file.slice(from, from + PIECE_BYTES);
  let bytes;
  try {
    bytes = await piece.arrayBuffer();
  } catch {
    throw changed(file);
  }
  if (bytes.byteLength !== piece.size) throw changed(file);
  const headers = { "Tus-Resumable": "1.0.0", "Content-Type": PIECE_TYPE };
  if (place) headers["Upload-Offset"] = String(from);
  else {
    const name = String.fromCharCode(...new TextEncoder().encode(file.name.slice(-200)));
    Object.assign(headers, { "Upload-Length": String(file.size), "Upload-Metadata": `filename ${btoa(name)}` });
  }
  for (;;) {
    const used = token.get();
    const response = await put(place ? "PATCH" : "POST", place || "/documents", { ...headers, ...authorization(used) }, bytes, (sent) => onSent(from + sent), signal);
    if (response.ok) return response;
    const failure = await failed(response);
    if (response.status !== 401 || (token.get() === used && !(await askToken(Boolean(used))))) throw failure;
  }
}

async function failed(response) {
  const after = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  let body = {};
  try {
    body = (await response.json()).error ?? {};
  } catch {
    // A proxy sent a page of its own: only the status is known.
  }
  return new ApiError({ message: `${response.status} ${response.statusText}`.trim(), ...body }, response.status, Number.isNaN(after) ? null : after);
}

const json = async (path, options) => (await send(path, options)).json();

/** The events of a stream, as `[name, data]`. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    let part;
    try {
      part = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      lost();
      throw gone();
    }
    if (part.done) return;
    let from = Math.max(0, held.length - 4);
    held += part.value;
    for (;;) {
      const end = /\r?\n\r?\n/g;
      end.lastIndex = from;
      const match = end.exec(held);
      if (!match) break;
      const block = held.slice(0, match.index);
      held = held.slice(match.index + match[0].length);
      from = 0;
      const lines = block.split(/\r?\n/).filter((line) => !line.startsWith(":"));
      const name = lines.find((line) => line.startsWith("event:"))?.slice(6).trim() ?? "message";
      const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5).replace(/^ /, ""));
      if (data.length) yield [name, JSON.parse(data.join("\n"))];
    }
  }
}

export const api = {
  modes: () => json("/modes"),
  status: () => json("/gpu/status", { quiet: true }),
  offload: () => json("/gpu/offload", { method: "POST" }),
  release: (force) => json(`/gpu/release${force ? "?force=true" : ""}`, { method: "POST" }),

  /**
   * Sends a file once. Returns the name that the server gives it. An upload that was cut goes on at its place:
   * `upload` is an object of the caller that remembers this place.
   */
  async upload(file, upload, { onSent, signal }) {
    if (upload.place) {
      try {
        const seen = await send(upload.place, { method: "HEAD", signal });
        upload.at = Number(seen.headers.get("Upload-Offset"));
      } catch (error) {
        if (error.status !== 404) throw error;
        upload.place = "";
      }
    }
    if (!upload.place) upload.at = 0;
    while (!upload.place || upload.at < file.size) {
      const response = await sendPiece(file, upload.place, upload.at, { onSent, signal });
      upload.place ||= response.headers.get("Location");
      upload.at = Number(response.headers.get("Upload-Offset"));
      onSent(upload.at);
    }
    return upload.place.split("/").pop();
  },

  /** Fails if the server has dropped the document. */
  async has(document) {
    try {
      await send(`/documents/${document}`, { method: "HEAD" });
    } catch (error) {
      throw error.status === 404 ? new ApiError({ ...error, code: "input_not_found" }, 404) : error; // an answer to HEAD has no body
    }
  },

  /** Gives the password of a locked document; the server keeps it in memory as long as the document. */
  unlock: (document, password) => send(`/documents/${document}/password`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ password }) }),

  /** Has the server drop a document, which it would drop later by itself. */
  forget: (document) => send(`/documents/${document}`, { method: "DELETE", quiet: true, keepalive: true }).catch(() => {}),

  /** One page as the engine sees it: a picture, its size in the pixels that boxes are in, and how many there are. */
  async preview(document, page, side, signal) {
    const response = await send(`/preview?document=${document}&page=${page}&side=${side}`, { method: "POST", signal });
    const fact = (name) => Number.parseInt(response.headers.get(name), 10);
    return { blob: await response.blob(), width: fact("X-Page-Width"), height: fact("X-Page-Height"), count: fact("X-Page-Count") };
  },

  /** Reads a document; returns the answer. Aborting the signal stops the work on the server. */
  async read(document, fields, { signal, onQueued, onProgress, onPage }) {
    const given = Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== ""));
    const headers = { Accept: "text/event-stream", "Content-Type": "application/json" };
    const response = await send("/ocr", { method: "POST", body: JSON.stringify({ document, ...given }), signal, headers });
    let answer = null;
    for await (const [name, data] of events(response)) {
      if (name === "queued") onQueued(data.position);
      else if (name === "progress") onProgress(data);
      else if (name === "page") onPage(data);
      else if (name === "result") answer = data; // and on to the end: a stream that is left early counts as broken
      else if (name === "error") throw new ApiError(data.error, data.status, data.retry_after ?? null);
    }
    if (answer) return answer;
    lost();
    throw gone();
  },

  /** A file that the server makes of pages that were read. `given`: format, title, mode, pages; for a PDF the document. */
  async export(given) {
    return (await send("/export", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(given) })).blob();
  },
};
