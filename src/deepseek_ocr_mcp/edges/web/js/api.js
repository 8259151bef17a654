// The only way to the server. Every failure is an ApiError with code, message and remedy; a server that does not
// answer is noticed once, watched for, and told about when it is back.

import { memory } from "./dom.js";

const HEALTH_EVERY_MS = 1500;
const HEALTH_TIMEOUT_MS = 4000;

export class ApiError extends Error {
  constructor({ code = "internal", message = "", remedy = "" } = {}, status = 0, retryAfter = null) {
    super(message);
    Object.assign(this, { code, remedy, status, retryAfter });
  }
}

/** `gone` when the server does not answer; `back` when it does, after that or after an answer that was lost. */
export const connection = new EventTarget();
let watching = false;

const session = () => sessionStorage;
const hooks = { askToken: async () => null };

export const token = {
  get: () => memory.get("token", session) ?? memory.get("token"),
  set(value, remember) {
    memory.set("token", value, session);
    memory.set("token", remember ? value : null);
  },
  /** `ask(again)` shows a dialog, or joins the one that is open, and returns whether a token was given. */
  onAsk: (ask) => (hooks.askToken = ask),
};

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

async function send(path, options = {}) {
  for (;;) {
    const used = token.get();
    const headers = { ...options.headers, ...(used ? { Authorization: `Bearer ${used}` } : {}) };
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
    if (token.get() === used && !(await hooks.askToken(Boolean(used)))) throw failure;
  }
}

async function failed(response) {
  const after = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  let body = {};
  try {
    body = (await response.json()).error ?? {};
  } catch {
    // A proxy's own page: the status must do.
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
  status: () => json("/gpu/status"),
  offload: () => json("/gpu/offload", { method: "POST" }),
  release: (force) => json(`/gpu/release${force ? "?force=true" : ""}`, { method: "POST" }),

  /** One page as the engine sees it: a picture, its size in the pixels that boxes are in, and how many there are. */
  async preview(file, page, side, signal) {
    const body = new FormData();
    body.append("file", file, file.name);
    const response = await send(`/preview?page=${page}&side=${side}`, { method: "POST", body, signal });
    const fact = (name) => Number.parseInt(response.headers.get(name), 10);
    return { blob: await response.blob(), width: fact("X-Page-Width"), height: fact("X-Page-Height"), count: fact("X-Page-Count") };
  },

  /** Reads a file; returns the answer. Aborting the signal stops the work on the server. */
  async read(file, fields, { signal, onQueued, onProgress }) {
    const body = new FormData();
    body.append("file", file, file.name);
    for (const [name, value] of Object.entries(fields)) if (value !== "") body.append(name, String(value));
    const response = await send("/ocr", { method: "POST", body, signal, headers: { Accept: "text/event-stream" } });
    let answer = null;
    for await (const [name, data] of events(response)) {
      if (name === "queued") onQueued(data.position);
      else if (name === "progress") onProgress(data);
      else if (name === "result") answer = data; // and on to the end: a stream that is left early counts as broken
      else if (name === "error") throw new ApiError(data.error, data.status, data.retry_after ?? null);
    }
    if (answer) return answer;
    lost();
    throw gone();
  },

  async exportDocx({ pages, mode }, title) {
    const body = JSON.stringify({ format: "docx", title, mode, pages });
    return (await send("/export", { method: "POST", headers: { "Content-Type": "application/json" }, body })).blob();
  },

  async exportPdf(file, { pages, mode }, title) {
    const body = new FormData();
    body.append("file", file, file.name);
    body.append("result", JSON.stringify({ format: "pdf", title, mode, pages }));
    return (await send("/export", { method: "POST", body })).blob();
  },
};
