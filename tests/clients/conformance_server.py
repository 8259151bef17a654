"""Our HTTP server, with the conformance suites' fixtures beside our tools.

`python conformance_server.py [PORT]` prints its address on stdout, once it listens. Everything but
the fixtures is what `deepseek-ocr-mcp serve --transport http` runs.
"""

from __future__ import annotations

import sys

import anyio
from conformance_fixtures import register
from mcp.server.mcpserver import MCPServer

from deepseek_ocr_mcp.app import run as app
from deepseek_ocr_mcp.config import load_settings
from deepseek_ocr_mcp.edges.mcp import server as edge
from deepseek_ocr_mcp.service.service import OcrService

_build_ours = edge.build_mcp


def build_with_fixtures(service: OcrService, *, local: bool) -> MCPServer:
    mcp = _build_ours(service, local=local)
    register(mcp)
    return mcp


def main() -> None:
    edge.build_mcp = build_with_fixtures
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    settings = load_settings(overrides={"host": "127.0.0.1", "port": port})
    anyio.run(app.serve_http, settings, lambda url: print(url, flush=True))


if __name__ == "__main__":
    main()
