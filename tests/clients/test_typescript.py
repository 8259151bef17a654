"""Both generations of the TypeScript SDK list the tools, read a page and see progress, on both transports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clients.rig import STDIO_SERVER, Node

pytestmark = pytest.mark.conformance

TOOLS = {"gpu_offload", "gpu_release", "gpu_status", "ocr_image", "ocr_to_files"}
SDKS = {
    "sdk 1": (["--sdk", "1"], None),
    "sdk 2, 2025-11-25": (["--sdk", "2", "--era", "legacy"], "2025-11-25"),
    "sdk 2, 2026-07-28": (["--sdk", "2", "--era", "auto"], "2026-07-28"),
}


@pytest.fixture(params=["stdio", "http"])
def server(request: pytest.FixtureRequest) -> list[str]:
    """The end of the client's command line that names the server."""
    if request.param == "stdio":
        return ["--", *STDIO_SERVER]
    return ["--url", request.getfixturevalue("http_url")]


def text_of(result: dict[str, Any]) -> str:
    return "\n".join(block["text"] for block in result["content"] if block["type"] == "text")


@pytest.mark.parametrize("sdk", SDKS)
def test_a_document_is_read_with_progress(node: Node, server: list[str], document: Path, sdk: str) -> None:
    options, protocol = SDKS[sdk]
    arguments = json.dumps({"image": str(document), "boxes": True})
    said = node.typescript(*options, "--tool", "ocr_image", "--args", arguments, *server).json()

    assert {tool["name"] for tool in said["tools"]} == TOOLS
    assert all(tool["outputSchema"] for tool in said["tools"])
    assert said["protocol"] == protocol or protocol is None
    assert not said["result"].get("isError")
    assert "TOTAL" in text_of(said["result"]).upper()
    structured = said["result"]["structuredContent"]
    assert structured["page_count"] == 2
    first = structured["pages"][0]
    assert first["blocks"]
    for block in first["blocks"]:
        x1, y1, x2, y2 = block["box"]
        assert 0 <= x1 < x2 <= first["width"]
        assert 0 <= y1 < y2 <= first["height"]
    steps = [step["progress"] for step in said["progress"]]
    assert len(steps) >= 2
    assert steps == sorted(set(steps)), "progress must strictly increase"


@pytest.mark.parametrize("sdk", SDKS)
def test_the_status_is_told_while_pages_are_read(node: Node, server: list[str], document: Path, sdk: str) -> None:
    options, _ = SDKS[sdk]
    arguments = json.dumps({"image": str(document)})  # of two pages: one is read before a client can ask
    said = node.typescript(
        *options, "--tool", "ocr_image", "--args", arguments, "--during", "gpu_status", *server
    ).json()
    assert not said["during"].get("isError"), text_of(said["during"])
    assert said["during"]["structuredContent"]["queue"] >= 1
    assert "TOTAL" in text_of(said["result"]).upper()


def test_the_answers_of_the_gpu_tools_fit_their_schemas(node: Node, server: list[str]) -> None:
    """SDK 2 checks structured content against the output schema and refuses what does not fit."""
    tools = ("gpu_status", "gpu_offload", "gpu_release")
    said = node.typescript("--sdk", "2", *(f"--then={tool}" for tool in tools), *server).json()
    assert set(said["after"]) == set(tools)
    for answer in said["after"].values():
        assert not answer.get("isError"), text_of(answer)
        assert answer["structuredContent"]


@pytest.mark.parametrize("sdk", SDKS)
def test_a_missing_file_is_an_answer_that_says_what_to_do(node: Node, page: Path, sdk: str) -> None:
    options, _ = SDKS[sdk]
    missing = json.dumps({"image": str(page.with_name("missing.png"))})
    said = node.typescript(*options, "--tool", "ocr_image", "--args", missing, "--", *STDIO_SERVER).json()
    assert said["result"]["isError"]
    assert "missing.png" in text_of(said["result"])


@pytest.mark.parametrize("sdk", SDKS)
def test_the_bearer_token_opens_the_server_and_its_absence_does_not(
    node: Node, guarded_url: str, token: str, sdk: str
) -> None:
    options, _ = SDKS[sdk]
    allowed = node.typescript(*options, "--url", guarded_url, "--token", token).json()
    assert {tool["name"] for tool in allowed["tools"]} == TOOLS
    refused = node.typescript(*options, "--url", guarded_url)
    assert refused.code == 1
    assert "bearer token" in refused.stderr or "HTTP 401" in refused.stderr
