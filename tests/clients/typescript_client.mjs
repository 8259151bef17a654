// Connects to a server with the TypeScript SDK, calls a tool, prints one line of JSON.
//
//   node typescript_client.mjs [options] --url URL [--token TOKEN]
//   node typescript_client.mjs [options] -- COMMAND ARGUMENT…
//
//   --sdk 1|2         @modelcontextprotocol/sdk (1) or @modelcontextprotocol/client (2)
//   --era legacy|auto only --sdk 2: the 2025-11-25 handshake, or 2026-07-28 where the server has it
//   --tool NAME --args JSON
//   --then NAME[=JSON] another tool with its arguments, called after that one; as often as there are such
//   --during NAME     a tool without arguments, called at the first progress of the other one
//   --timeout SECONDS for everything together
//
// Prints {server, protocol, tools, result, progress, during, after} and exits 0; says why on stderr and exits 1.

import { parseArgs } from "node:util";

const { values: options, positionals: command } = parseArgs({
  allowPositionals: true,
  options: {
    sdk: { type: "string", default: "1" },
    era: { type: "string", default: "legacy" },
    url: { type: "string" },
    token: { type: "string" },
    tool: { type: "string" },
    args: { type: "string", default: "{}" },
    during: { type: "string" },
    then: { type: "string", multiple: true, default: [] },
    timeout: { type: "string", default: "120" },
  },
});
const timeout = Number(options.timeout) * 1000;

const deadline = setTimeout(() => fail(new Error(`nothing came of it within ${options.timeout} s`)), timeout);

function fail(error) {
  console.error(error?.stack ?? String(error));
  process.exit(1);
}

async function load() {
  if (options.sdk === "2") {
    const { Client, StreamableHTTPClientTransport } = await import("@modelcontextprotocol/client");
    const { StdioClientTransport } = await import("@modelcontextprotocol/client/stdio");
    const settings = { versionNegotiation: { mode: options.era } };
    const call = (client, request, more) => client.callTool(request, more);
    return { Client, StdioClientTransport, StreamableHTTPClientTransport, settings, call };
  }
  const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
  const { StdioClientTransport } = await import("@modelcontextprotocol/sdk/client/stdio.js");
  const { StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
  const call = (client, request, more) => client.callTool(request, undefined, more);
  return { Client, StdioClientTransport, StreamableHTTPClientTransport, settings: {}, call };
}

async function main() {
  const sdk = await load();
  const client = new sdk.Client({ name: "typescript-test-client", version: "1.0.0" }, sdk.settings);
  let transport;
  if (options.url) {
    const headers = options.token ? { Authorization: `Bearer ${options.token}` } : {};
    transport = new sdk.StreamableHTTPClientTransport(new URL(options.url), { requestInit: { headers } });
  } else {
    const [program, ...rest] = command;
    transport = new sdk.StdioClientTransport({ command: program, args: rest, env: { ...process.env } });
  }
  await client.connect(transport);

  const { tools } = await client.listTools();
  const progress = [];
  let result = null;
  let during = null;
  if (options.tool) {
    const request = { name: options.tool, arguments: JSON.parse(options.args) };
    const onprogress = (step) => {
      progress.push(step);
      if (options.during && !during) {
        during = sdk.call(client, { name: options.during, arguments: {} }, { timeout });
        during.catch(() => {}); // it is awaited below
      }
    };
    result = await sdk.call(client, request, { timeout, resetTimeoutOnProgress: true, onprogress });
  }
  during = await during;
  const after = {};
  for (const then of options.then) {
    const [name, ...given] = then.split("=");
    after[name] = await sdk.call(client, { name, arguments: JSON.parse(given.join("=") || "{}") }, { timeout });
  }
  const protocol = client.getNegotiatedProtocolVersion?.() ?? transport.protocolVersion ?? null;
  const server = client.getServerVersion() ?? null;
  await client.close();
  console.log(JSON.stringify({ server, protocol, tools, result, progress, during, after }));
}

main().then(() => clearTimeout(deadline), fail);
