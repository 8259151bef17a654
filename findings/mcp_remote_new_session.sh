#!/usr/bin/env bash
# A server over streamable HTTP is started again and has forgotten its sessions.
# A good guess: mcp-remote, which hands messages on, gives its client the 404, as the SDK that it is built on does.
# Seen: mcp-remote opens a new session by itself, and the call succeeds.
. "$(dirname "$0")/common.sh"
node_with @modelcontextprotocol/sdk@1.32.2 mcp-remote@0.15.1
export MCP_REMOTE_CONFIG_DIR=$work/config
cat >"$work/node/server.mjs" <<'EOF'
import http from "node:http";
import { randomUUID } from "node:crypto";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";

const sessions = new Map();
const gone = JSON.stringify({ jsonrpc: "2.0", id: null, error: { code: -32001, message: "Session not found" } });
const server = http.createServer(async (request, response) => {
  const id = request.headers["mcp-session-id"];
  if (id && !sessions.has(id)) return response.writeHead(404, { "content-type": "application/json" }).end(gone);
  let transport = sessions.get(id);
  if (!transport) {
    transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: () => randomUUID(),
      onsessioninitialized: (name) => sessions.set(name, transport),
    });
    const mcp = new McpServer({ name: "echo", version: "1" });
    mcp.registerTool("hello", {}, () => ({ content: [{ type: "text", text: "hello" }] }));
    await mcp.connect(transport);
  }
  await transport.handleRequest(request, response);
});
server.listen(Number(process.argv[2]), "127.0.0.1", () => console.log(server.address().port));
EOF
node_runs <<'EOF'
import { spawn } from "node:child_process";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

function start(port) {
  const server = spawn(process.execPath, ["server.mjs", String(port)], { stdio: ["ignore", "pipe", "inherit"] });
  return new Promise((done) => server.stdout.once("data", (line) => done([server, Number(line)])));
}

async function outcome(client) {
  try {
    return (await client.callTool({ name: "hello", arguments: {} }, undefined, { timeout: 20000 })).content[0].text;
  } catch (error) {
    return error.message;
  }
}

let failed = false;
function asDescribed(what, seen, described) {
  console.log(`${what}: ${seen}`);
  if (!described.test(seen)) {
    console.log(`CHANGED, it was like ${described}`);
    failed = true;
  }
}

console.log("mcp-remote 0.15.1, @modelcontextprotocol/sdk 1.32.2");
let [server, port] = await start(0);
const url = `http://127.0.0.1:${port}/mcp`;
const remote = new Client({ name: "asks", version: "1" });
const command = { command: process.execPath, args: ["node_modules/mcp-remote/dist/proxy.js", url, "--allow-http"] };
await remote.connect(new StdioClientTransport({ ...command, env: process.env, stderr: "ignore" }));
const direct = new Client({ name: "asks", version: "1" });
await direct.connect(new StreamableHTTPClientTransport(new URL(url)));
asDescribed("before, by mcp-remote", await outcome(remote), /^hello$/);
asDescribed("before, directly", await outcome(direct), /^hello$/);
server.kill("SIGKILL");
await new Promise((done) => server.once("exit", done));
[server] = await start(port);
asDescribed("after, by mcp-remote", await outcome(remote), /^hello$/);
asDescribed("after, directly", await outcome(direct), /Session not found/);
server.kill("SIGKILL");
await remote.close();
process.exit(failed ? 1 : 0);
EOF
