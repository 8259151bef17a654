"""The official MCP conformance suites, for both protocol eras.

Two servers are tested. The one that users start, by the scenarios that ask for nothing but a
server; and the same with the suites' fixtures registered on it, by everything. What is expected
to fail is in expected_failures_2025-11-25.yaml, with reasons, and an entry that passes fails the run.

Not tested: server-sse-polling, which wants an event store for resuming streams (a SHOULD): answers
are kept nowhere here; and the tasks extension, which mcp does not have. The 0.2 suite runs both
without scoring them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from clients.rig import Node

pytestmark = pytest.mark.conformance

EXPECTED_FAILURES = Path(__file__).with_name("expected_failures_2025-11-25.yaml")

SUITES = {
    # suite, arguments, fewest scenarios that must pass
    "0.1, 2025-11-25": (
        "2025-11-25",
        ["--suite", "active", "--expected-failures", str(EXPECTED_FAILURES)],
        26,
    ),
    "0.2, 2025-11-25": (
        "2026-07-28",
        ["--requirements", "2025-11-25", "--expected-failures", str(EXPECTED_FAILURES)],
        28,
    ),
    "0.2, 2026-07-28": ("2026-07-28", ["--requirements", "2026-07-28"], 40),
}

GENERIC_2025 = [
    "server-initialize",
    "server-session-lifecycle",
    "ping",
    "tools-list",
    "resources-list",
    "prompts-list",
    "server-sse-multiple-streams",
    "dns-rebinding-protection",
]
GENERIC_2026 = [
    "tools-list",
    "resources-list",
    "prompts-list",
    "caching",
    "http-header-validation",
    "sep-2164-resource-not-found",
    "server-sse-multiple-streams",
    "dns-rebinding-protection",
]


@pytest.mark.parametrize("name", SUITES)
def test_the_suite_passes_with_its_fixtures(node: Node, fixtures_url: str, name: str) -> None:
    suite, arguments, fewest = SUITES[name]
    said = node.conformance(suite, "--url", fixtures_url, *arguments)
    summary = said.stdout.partition("=== SUMMARY ===")[2]
    assert said.code == 0, summary or said.stdout[-4000:] + said.stderr[-4000:]
    passed = re.findall(r"^✓ ([\w-]+): [1-9]", summary, re.MULTILINE)
    assert len(passed) >= fewest, f"only {len(passed)} scenarios passed anything:\n{summary}"


@pytest.fixture(scope="module")
def run_of(node: Node, http_url: str) -> Callable[[str], str]:
    """What the suite says of the server as it is started, by the revision of the protocol. It runs once for each: a
    scenario that asks for fixtures fails, and is not looked at.
    """

    @cache
    def run(revision: str) -> str:
        return node.conformance("2026-07-28", "--url", http_url, "--requirements", revision).stdout

    return run


@pytest.mark.parametrize(
    ("revision", "scenario"),
    [("2025-11-25", name) for name in GENERIC_2025] + [("2026-07-28", name) for name in GENERIC_2026],
)
def test_the_server_as_it_is_started_passes_what_needs_no_fixture(
    run_of: Callable[[str], str], revision: str, scenario: str
) -> None:
    said = run_of(revision)
    counted = re.search(rf"^(.) {scenario}: (\d+) passed", said.partition("=== SUMMARY ===")[2], re.MULTILINE)
    assert counted, said[-4000:]
    assert counted[1] == "✓", said
    assert int(counted[2]) >= 1, said[-4000:]
