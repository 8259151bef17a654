#!/usr/bin/env bash
# Tools of a FastMCP server return bytes: a file that they have read.
# A good guess: one form for all bytes, base64 with a type, or an error.
# Seen: a text block without a type. It holds the text where the bytes happen to be UTF-8, and base64 where they are not, so
# b"AP+A" and b"\x00\xff\x80" give the same answer, and a file may change its form with its content.
. "$(dirname "$0")/common.sh"
python_with fastmcp==4.1.6 mcp==2.3.0
python_runs <<'EOF'
import asyncio
import logging

from fastmcp import Client, FastMCP
from finding import as_described, versions

versions("fastmcp", "mcp")
logging.disable(logging.WARNING)
FILES = {"text": b"AP+A", "binary": b"\x00\xff\x80"}
server = FastMCP("files")


@server.tool
def file(name: str) -> bytes:
    return FILES[name]


async def answers():
    async with Client(server) as client:
        return [(await client.call_tool_mcp("file", {"name": name})).content for name in FILES]


text, binary = asyncio.run(answers())
as_described("blocks", [block.type for block in (*text, *binary)], ["text", "text"])
as_described("of text bytes", text[0].text, "AP+A")
as_described("of other bytes", binary[0].text, "AP+A")
as_described("the two answers are equal", text == binary, True)
EOF
