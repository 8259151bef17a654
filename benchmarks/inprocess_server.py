"""The peer in `startup.py` and `idle.py`: an OCR server that imports its engine in its own process.

It is as short as such a server can be: the engine's own class as its authors ship it, made at import, and one tool. The
tool and its argument have our names, so that both servers get the same message.
"""

from __future__ import annotations

from mcp.server.mcpserver import MCPServer
from rapidocr import RapidOCR

engine = RapidOCR()
server = MCPServer("in-process-ocr", log_level="ERROR")


@server.tool()
def ocr_image(image: str) -> str:
    """Read the text of an image."""
    return "\n".join(engine(image).txts or ())


if __name__ == "__main__":
    server.run("stdio")
