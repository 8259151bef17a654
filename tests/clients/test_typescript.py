"""Both generations of the TypeScript SDK list the tools, read a page and see progress, on both transports."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from clients.rig import STDIO_SERVER, Node

pytestmark = pytest.mark.conformance

GPU_TOOLS = ("gpu_status", "gpu_offload", "gpu_release")
TOOLS = {*GPU_TOOLS, "ocr_image", "ocr_to_files"}
SDKS = {
    "sdk 1": (["--sdk", "1"], None),
    "sdk 2, 2025-11-25": (["--sdk", "2", "--era", "legacy"], "2025-11-25"),
    "sdk 2, 2026-07-28": (["--sdk", "2", "--era", "auto"], "2026-07-28"),
}


@dataclass(frozen=True)
class Session:
    """What one client met: a document that it had read, and the tools that it called meanwhile and then."""

    protocol: str | None
    """The revision of the protocol that it must have agreed on; None: it does not tell."""
    heard: dict[str, Any]
    """What typescript_client.mjs prints."""


@pytest.fixture(scope="module", params=[(sdk, server) for sdk in SDKS for server in ("stdio", "http")], ids="-".join)
def session(request: pytest.FixtureRequest, node: Node, document: Path, page: Path) -> Session:
    """One client of each kind on each transport: it takes two seconds of a core to start, and its server another."""
    sdk, transport = request.param
    options, protocol = SDKS[sdk]
    calls = [
        *("--tool", "ocr_image", "--args", json.dumps({"image": str(document), "boxes": True})),
        *("--during", "gpu_status"),  # the document has two pages: one is read before a client can ask
        *(f"--then={tool}" for tool in GPU_TOOLS),
        f"--then=ocr_image={json.dumps({'image': str(page.with_name('missing.png'))})}",
    ]
    server = ["--", *STDIO_SERVER] if transport == "stdio" else ["--url", request.getfixturevalue("http_url")]
    return Session(protocol, node.typescript(*options, *calls, *server).json())


def text_of(result: dict[str, Any]) -> str:
    return "\n".join(block["text"] for block in result["content"] if block["type"] == "text")


def test_a_document_is_read_with_progress(session: Session) -> None:
    heard = session.heard
    assert {tool["name"] for tool in heard["tools"]} == TOOLS
    assert all(tool["outputSchema"] for tool in heard["tools"])
    assert heard["protocol"] == session.protocol or session.protocol is None
    assert not heard["result"].get("isError")
    assert "TOTAL" in text_of(heard["result"]).upper()
    structured = heard["result"]["structuredContent"]
    assert structured["page_count"] == 2
    first = structured["pages"][0]
    assert first["blocks"]
    for block in first["blocks"]:
        x1, y1, x2, y2 = block["box"]
        assert 0 <= x1 < x2 <= first["width"]
        assert 0 <= y1 < y2 <= first["height"]
    steps = [step["progress"] for step in heard["progress"]]
    assert len(steps) >= 2
    assert steps == sorted(set(steps)), "progress must strictly increase"


def test_the_status_is_told_while_pages_are_read(session: Session) -> None:
    during = session.heard["during"]
    assert not during.get("isError"), text_of(during)
    assert during["structuredContent"]["queue"] >= 1


def test_the_answers_of_the_gpu_tools_fit_their_schemas(session: Session) -> None:
    """SDK 2 checks structured content against the output schema and refuses what does not fit."""
    for tool in GPU_TOOLS:
        answer = session.heard["after"][tool]
        assert not answer.get("isError"), text_of(answer)
        assert answer["structuredContent"]


def test_a_missing_file_is_an_answer_that_says_what_to_do(session: Session) -> None:
    answer = session.heard["after"]["ocr_image"]
    assert answer["isError"]
    assert "missing.png" in text_of(answer)


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
