// The only way to the host: JSON-RPC over messages to the frame around this one, as the MCP Apps extension has it
// (io.modelcontextprotocol/ui, version 2026-01-26). Messages from anybody else are not looked at.

const PROTOCOL = "2026-01-26";
const NO_METHOD = -32601;
const CALL_TIMEOUT_MS = 180_000; // a call is answered within OCR_REPLY_SECONDS; this is for a host that forgot it

export class HostError extends Error {
  constructor({ code = 0, message = "" } = {}) {
    super(message);
    this.code = code;
  }
}

export class Host extends EventTarget {
  /** Events, with their parameters as `detail`: `partial`, `input`, `result`, `cancelled`, and `context` when it changed. */
  constructor() {
    super();
    this.context = {};
    this.capabilities = {};
    this.waiting = new Map();
    this.ids = 0;
    window.addEventListener("message", (event) => {
      if (event.source === window.parent && event.data?.jsonrpc === "2.0") this.take(event.data);
    });
  }

  get callsTools() {
    return Boolean(this.capabilities.serverTools);
  }

  get opensLinks() {
    return Boolean(this.capabilities.openLinks);
  }

  offers(displayMode) {
    return (this.context.availableDisplayModes ?? []).includes(displayMode);
  }

  async connect(name, version) {
    const answer = await this.request("ui/initialize", {
      protocolVersion: PROTOCOL,
      appInfo: { name, version },
      appCapabilities: { availableDisplayModes: ["inline", "fullscreen"] },
    });
    this.capabilities = answer.hostCapabilities ?? {};
    this.context = answer.hostContext ?? {};
  }

  /** Called once everything listens: from here on the host sends. */
  ready() {
    this.notify("ui/notifications/initialized", {});
  }

  callTool(name, given) {
    return this.request("tools/call", { name, arguments: given });
  }

  openLink(url) {
    return this.request("ui/open-link", { url });
  }

  async display(mode) {
    const answer = await this.request("ui/request-display-mode", { mode });
    this.change({ displayMode: answer.mode ?? mode });
  }

  resized(height) {
    this.notify("ui/notifications/size-changed", { height });
  }

  // -- the wire

  post(message) {
    // The host's address is not known here. No message holds a secret, so any frame may receive it.
    window.parent.postMessage({ jsonrpc: "2.0", ...message }, "*");
  }

  notify(method, params) {
    this.post({ method, params });
  }

  request(method, params) {
    const id = ++this.ids;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.settle(id, { error: { message: `The host did not answer ${method}.` } }), CALL_TIMEOUT_MS);
      this.waiting.set(id, { resolve, reject, timer });
      this.post({ id, method, params });
    });
  }

  settle(id, { result, error }) {
    const asked = this.waiting.get(id);
    if (!asked) return;
    this.waiting.delete(id);
    clearTimeout(asked.timer);
    if (error) asked.reject(new HostError(error));
    else asked.resolve(result ?? {});
  }

  take(message) {
    if (message.method === undefined) this.settle(message.id, message);
    else if (message.id !== undefined) this.answer(message);
    else {
      const params = message.params ?? {};
      switch (message.method) {
        case "ui/notifications/tool-input-partial":
          return this.tell("partial", params.arguments ?? {});
        case "ui/notifications/tool-input":
          return this.tell("input", params.arguments ?? {});
        case "ui/notifications/tool-result":
          return this.tell("result", params);
        case "ui/notifications/tool-cancelled":
          return this.tell("cancelled", params);
        case "ui/notifications/host-context-changed":
          return this.change(params);
      }
    }
  }

  answer({ id, method }) {
    if (method === "ping" || method === "ui/resource-teardown") this.post({ id, result: {} }); // there is nothing to save
    else this.post({ id, error: { code: NO_METHOD, message: `${method} is not known here.` } });
  }

  change(context) {
    this.context = { ...this.context, ...context };
    this.tell("context", this.context);
  }

  tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
