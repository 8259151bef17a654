#!/usr/bin/env bash
# A tool has an output schema; a call fails and answers isError with its reason, and structured content of another shape.
# A good guess: clients check structured content of results that succeed; of a failed call the reason comes through.
# Seen: the TypeScript client 1.32 checks it all the same, once tools were listed, and throws: the reason is lost.
# Client 2.4 and MCP's Python client 2.3 give the reason.
. "$(dirname "$0")/common.sh"
node_with @modelcontextprotocol/sdk@1.32.2 @modelcontextprotocol/client@2.4.0
cat >"$work/node/server.mjs" <<'EOF'
import { Server } from "@modelcontextprotocol/sdk/server/index.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import { CallToolRequestSchema, ListToolsRequestSchema } from "@modelcontextprotocol/sdk/types.js";

const server = new Server({ name: "count", version: "1" }, { capabilities: { tools: {} } });
const outputSchema = { type: "object", properties: { pages: { type: "integer" } }, required: ["pages"] };
const tool = { name: "count", inputSchema: { type: "object" }, outputSchema };
server.setRequestHandler(ListToolsRequestSchema, () => ({ tools: [tool] }));
server.setRequestHandler(CallToolRequestSchema, () => ({
  content: [{ type: "text", text: "the file is gone" }],
  structuredContent: { code: "not_found" },
  isError: true,
}));
await server.connect(new StdioServerTransport());
EOF
node_runs <<'EOF'
import { Client as Client1 } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport as Transport1 } from "@modelcontextprotocol/sdk/client/stdio.js";
import { Client as Client2 } from "@modelcontextprotocol/client";
import { StdioClientTransport as Transport2 } from "@modelcontextprotocol/client/stdio";

async function reason(Client, Transport, listed) {
  const client = new Client({ name: "asks", version: "1" });
  await client.connect(new Transport({ command: process.execPath, args: ["server.mjs"] }));
  try {
    if (listed) await client.listTools();
    return (await client.callTool({ name: "count", arguments: {} })).content[0].text;
  } catch (error) {
    return error.message;
  } finally {
    await client.close();
  }
}

function asDescribed(what, seen, described) {
  console.log(`${what}: ${seen}`);
  if (!described.test(seen)) {
    console.log(`CHANGED, it was like ${described}`);
    process.exit(1);
  }
}

console.log("@modelcontextprotocol/sdk 1.32.2, @modelcontextprotocol/client 2.4.0");
asDescribed("1.32, tools not listed", await reason(Client1, Transport1, false), /^the file is gone$/);
asDescribed("1.32, tools listed", await reason(Client1, Transport1, true), /does not match the tool's output schema/);
asDescribed("2.4, tools listed", await reason(Client2, Transport2, true), /^the file is gone$/);
EOF
