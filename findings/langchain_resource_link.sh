#!/usr/bin/env bash
# A tool answers with text and a resource link to the rest, which the protocol has for long results.
# A good guess: the agent's model gets the text; the link becomes text or is left out.
# Seen: the adapter makes it a file block. ChatOpenAI then refuses the whole history with a ValueError, so the run
# ends; over the Responses API and to Anthropic the link goes out as a file's address that no provider can open.
. "$(dirname "$0")/common.sh"
python_with langchain-mcp-adapters==0.3.2 langchain-openai==1.7.4 langchain-anthropic==1.7.10 mcp==1.30.0
cat >"$work/server.py" <<'EOF'
from mcp.server.fastmcp import FastMCP
from mcp.types import CallToolResult, ResourceLink, TextContent

server = FastMCP("notes")


@server.tool()
def read() -> CallToolResult:
    link = ResourceLink(type="resource_link", uri="notes://7", name="the rest", mimeType="text/markdown")
    return CallToolResult(content=[TextContent(type="text", text="the beginning"), link])


server.run()
EOF
python_runs <<'EOF'
import asyncio
import os
import sys

from finding import as_described, versions
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, HumanMessage
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_openai import ChatOpenAI

versions("langchain-mcp-adapters", "langchain-openai", "langchain-anthropic", "mcp")


async def answer():
    server = {"transport": "stdio", "command": sys.executable, "args": [os.path.join(os.getcwd(), "server.py")]}
    (tool,) = await MultiServerMCPClient({"notes": server}).get_tools()
    return await tool.ainvoke({"type": "tool_call", "id": "call_1", "name": "read", "args": {}})


message = asyncio.run(answer())
blocks = [{key: value for key, value in block.items() if key != "id"} for block in message.content]
link = {"type": "file", "url": "notes://7", "mime_type": "text/markdown"}
as_described("the tool's message", blocks, [{"type": "text", "text": "the beginning"}, link])

history = [HumanMessage("go"), AIMessage("", tool_calls=[{"id": "call_1", "name": "read", "args": {}}]), message]
try:
    ChatOpenAI(model="any", api_key="none")._get_request_payload(history)
    outcome = "a request"
except ValueError as error:
    outcome = str(error)
as_described("ChatOpenAI", outcome, "OpenAI Chat Completions does not support file URLs.")
sent = ChatOpenAI(model="any", api_key="none", use_responses_api=True)._get_request_payload(history)["input"][-1]
as_described("Responses API", sent["output"][-1], {"type": "input_file", "file_url": "notes://7"})
sent = ChatAnthropic(model="any", api_key="none")._get_request_payload(history)["messages"][-1]["content"][0]
described = {"type": "document", "source": {"type": "url", "url": "notes://7"}}
as_described("ChatAnthropic", sent["content"][-1], described)
EOF
