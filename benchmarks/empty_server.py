"""The peer in `overhead.py`: a server of the same SDK whose tool does nothing but answer.

The tool and its arguments have our names, so that both servers get the same message. It answers with a page of text, as
content and as structured content. No server of this SDK can answer faster.
"""

from __future__ import annotations

import socket
import sys

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.types import CallToolResult, TextContent

TEXT = "Quiet pages are read by nobody. " * 40
server = MCPServer("empty", log_level="ERROR")


@server.tool()
def ocr_image(image: str, mode: str, max_chars: int) -> CallToolResult:
    """Read the text of an image."""
    pages = [{"page": 1, "width": 1, "height": 1, "text": TEXT}]
    timing = {"infer_s": 0.0, "total_s": 0.0}
    return CallToolResult(
        content=[TextContent(type="text", text=TEXT)], structured_content={"pages": pages, "timing": timing}
    )


def serve_http() -> None:
    """Serve HTTP on a free port. The line on stderr that names it has the form of our own server's."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # inherited; without it an answer waits 40 ms
    port = listener.getsockname()[1]
    print(f"Serving MCP at http://127.0.0.1:{port}/mcp", file=sys.stderr, flush=True)
    app = server.streamable_http_app()
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])


if __name__ == "__main__":
    if sys.argv[1:] == ["http"]:
        serve_http()
    else:
        server.run("stdio")
