"""MCP Inspector on the command line, what a developer tries first: both protocol eras, both transports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clients.rig import STDIO_SERVER, Node

pytestmark = pytest.mark.conformance

TOOLS = {"gpu_offload", "gpu_release", "gpu_status", "ocr_image", "ocr_to_files"}
TOOL_IS_ERROR = 5  # Inspector's exit code for an answer with isError


@pytest.fixture(params=["stdio", "http, 2025-11-25", "http, 2026-07-28"])
def server(request: pytest.FixtureRequest) -> list[str]:
    """The part of Inspector's command line that names the server."""
    if request.param == "stdio":
        return list(STDIO_SERVER)
    era = "legacy" if "2025" in request.param else "modern"
    return ["--server-url", request.getfixturevalue("http_url"), "--transport", "http", "--protocol-era", era]


def test_every_tool_is_listed_with_a_portable_schema(node: Node, server: list[str]) -> None:
    listed = node.inspector(*server, "--method", "tools/list", "--strict").json()["result"]["tools"]
    assert {tool["name"] for tool in listed} == TOOLS
    for tool in listed:
        assert {"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"} <= set(tool["annotations"])


def test_a_page_is_read(node: Node, server: list[str], page: Path) -> None:
    arguments = json.dumps({"image": str(page)})
    call = ("--method", "tools/call", "--tool-name", "ocr_image", "--tool-args-json", arguments)
    result = node.inspector(*server, *call).json()["result"]
    assert "TOTAL" in result["content"][0]["text"].upper()
    assert result["structuredContent"]["page_count"] == 1


def test_an_unknown_argument_is_refused_by_name(node: Node, server: list[str]) -> None:
    call = ("--method", "tools/call", "--tool-name", "gpu_status", "--tool-args-json", '{"verbose": true}')
    said = node.inspector(*server, *call)
    assert said.code == TOOL_IS_ERROR, said.stderr
    assert "verbose" in said.stdout


def test_a_header_carries_the_bearer_token(node: Node, guarded_url: str, token: str) -> None:
    call = (
        "--server-url",
        guarded_url,
        "--transport",
        "http",
        "--method",
        "tools/list",
        "--stored-auth-only",
    )
    assert node.inspector(*call).code != 0
    listed = node.inspector(*call, "--header", f"Authorization: Bearer {token}").json()["result"]["tools"]
    assert {tool["name"] for tool in listed} == TOOLS
