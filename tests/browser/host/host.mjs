// A host for the tests: a real MCP client, the reference AppBridge, and the frames as the MCP Apps specification has them.
// esbuild makes one file of it.

import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { AppBridge, PostMessageTransport, RESOURCE_MIME_TYPE, buildAllowAttribute, getToolUiResourceUri, isToolVisibilityAppOnly } from "@modelcontextprotocol/ext-apps/app-bridge";

const log = { calls: [], links: [], sizes: [], modes: [], sandbox: null };
const frame = document.getElementById("app");
let client, bridge, tools;

async function connect() {
  client = new Client(
    { name: "test host", version: "1" },
    { capabilities: { extensions: { "io.modelcontextprotocol/ui": { mimeTypes: [RESOURCE_MIME_TYPE] } } } },
  );
  await client.connect(new StreamableHTTPClientTransport(new URL("/mcp", location.href)));
  tools = new Map((await client.listTools()).tools.map((tool) => [tool.name, tool]));
}

/** Loads the app. `kind` of sandbox: "reference" (the outer frame's origin) or "opaque" (none, and the strictest policy). */
async function open({ sandbox, kind = "opaque", capabilities = { serverTools: {}, openLinks: {} }, context = {} }) {
  await connect();
  const uri = getToolUiResourceUri(tools.get("ocr_image"));
  const [content] = (await client.readResource({ uri })).contents;
  if (content.mimeType !== RESOURCE_MIME_TYPE) throw new Error(`The app is ${content.mimeType}.`);
  const { csp, permissions } = content._meta.ui;

  bridge = new AppBridge(null, { name: "test host", version: "1" }, capabilities, { hostContext: context });
  bridge.oncalltool = async (params) => {
    log.calls.push(params);
    const tool = tools.get(params.name);
    if (!tool || !(tool._meta?.ui?.visibility ?? ["app"]).includes("app")) throw new Error(`No app may call ${params.name}.`);
    return client.callTool(params);
  };
  bridge.onopenlink = async ({ url }) => {
    log.links.push(url);
    return {};
  };
  bridge.onrequestdisplaymode = async ({ mode }) => {
    log.modes.push(mode);
    document.body.dataset.mode = mode;
    bridge.setHostContext({ ...context, displayMode: mode });
    return { mode };
  };
  bridge.onsizechange = ({ height }) => {
    log.sizes.push(height);
    frame.style.height = `${height}px`;
  };
  const initialized = new Promise((resolve) => (bridge.oninitialized = resolve));
  const proxied = new Promise((resolve) => (bridge.onsandboxready = resolve));
  frame.setAttribute("sandbox", "allow-scripts allow-same-origin allow-forms");
  frame.setAttribute("allow", buildAllowAttribute(permissions));
  const query = new URLSearchParams({ kind, csp: JSON.stringify(csp) });
  const ready = new Promise((resolve) => frame.addEventListener("load", resolve, { once: true }));
  await bridge.connect(new PostMessageTransport(frame.contentWindow, frame.contentWindow));
  frame.src = `${sandbox}/sandbox.html?${query}`;
  await Promise.all([proxied, ready]);
  const inner = kind === "opaque" ? "allow-scripts" : "allow-scripts allow-same-origin allow-forms";
  await bridge.sendSandboxResourceReady({ html: content.text, sandbox: inner, csp, permissions });
  await initialized;
}

window.host = {
  log,
  open,
  listed: () => [...tools.values()].map((tool) => ({ name: tool.name, appOnly: isToolVisibilityAppOnly(tool) })),
  partial: (given) => bridge.sendToolInputPartial({ arguments: given }),
  input: (given) => bridge.sendToolInput({ arguments: given }),
  result: (result) => bridge.sendToolResult(result),
  cancel: () => bridge.sendToolCancelled({ reason: "the user stopped it" }),
  change: (context) => bridge.setHostContext(context),
  teardown: () => bridge.teardownResource({}),
  /** What an agent's call is for the app: its arguments, then its answer. */
  async call(given) {
    await bridge.sendToolInput({ arguments: given });
    const result = await client.callTool({ name: "ocr_image", arguments: given });
    await bridge.sendToolResult(result);
    return result;
  },
};
document.documentElement.dataset.ready = "";
