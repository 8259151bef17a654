"""What operators are given to watch with: rules that promtool accepts, and documents that name what is exported.

Needs Debian's package `prometheus`, which scripts/test installs.
"""

from __future__ import annotations

import ast
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from deepseek_ocr_mcp.observer import OURS_TO_MEND, STEPS, outcomes
from support import BOUND_S, HttpServer, as_base64, facts, http_client, http_server, png, wait_until

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy" / "prometheus"
RULES = (DEPLOY / "alerts.yml").read_text()
DOCUMENT = (ROOT / "docs" / "observability.md").read_text()
TOKEN = "correct-horse-battery-staple"

ROW = re.compile(r"^\| `([a-z_]+)` \| (counter|gauge|histogram) \| ([a-z_`, –]+) \|", re.MULTILINE)


def promtool(*arguments: str, folder: Path = DEPLOY) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    assert program is not None, "install Debian's package prometheus, or promtool from elsewhere"
    return subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, timeout=60)


def exported() -> dict[str, tuple[str, set[str]]]:
    """Name to type and labels of every metric of a server that has read a page and moved its model."""

    async def work(server: HttpServer) -> None:
        async with http_client(server) as mcp:
            facts(await mcp.call_tool("ocr_image", {"image": as_base64(png())}))

    found = {}
    with http_server("Counting") as server:
        anyio.run(work, server)
        for family in text_string_to_metric_families(httpx2.get(server.root + "/metrics", timeout=BOUND_S).text):
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            found[name] = (family.type, labels)
    return found


@pytest.fixture(scope="module")
def metrics() -> dict[str, tuple[str, set[str]]]:
    return exported()


def test_promtool_accepts_the_rules() -> None:
    done = promtool("check", "rules", "alerts.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_rule_fires_when_it_should_and_not_before() -> None:
    done = promtool("test", "rules", "alerts_test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_tests_of_the_rules_notice_a_rule_that_never_fires(tmp_path: Path) -> None:
    names = re.findall(r"- alert: (\w+)", RULES)
    assert len(names) == 11
    shutil.copy(DEPLOY / "alerts_test.yml", tmp_path)
    for name in names:
        before, _, after = RULES.partition(f"- alert: {name}\n")
        silenced = re.sub(r"expr: (>-\n +)?", r"expr: \1absent(vector(1)) and ", after, count=1)
        (tmp_path / "alerts.yml").write_text(f"{before}- alert: {name}\n{silenced}")
        assert promtool("check", "rules", "alerts.yml", folder=tmp_path).returncode == 0
        done = promtool("test", "rules", "alerts_test.yml", folder=tmp_path)
        assert done.returncode != 0, f"nothing tests {name}"
        assert name in done.stdout + done.stderr


def test_the_scrape_example_is_a_configuration(tmp_path: Path) -> None:
    shutil.copytree(DEPLOY, tmp_path, dirs_exist_ok=True)
    (tmp_path / "deepseek-ocr.token").write_text(TOKEN)
    done = promtool("check", "config", "prometheus.yml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_ask_for_metrics_outcomes_and_steps_that_there_are(metrics: dict[str, Any]) -> None:
    series = {
        name + suffix
        for name, (kind, _) in metrics.items()
        for suffix in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))
    }
    asked = set(re.findall(r"\bdeepseek_ocr_\w+", RULES))
    assert asked
    assert asked <= series
    values = {value for group in re.findall(r'outcome=~?"([^"]+)"', RULES) for value in group.split("|")}
    assert values <= set(outcomes())
    (ours,) = set(re.findall(r'outcome=~"([^"]+)"', RULES))
    assert set(ours.split("|")) == OURS_TO_MEND


def test_every_metric_is_documented_with_its_type_and_labels_and_none_that_is_not_there(
    metrics: dict[str, tuple[str, set[str]]],
) -> None:
    documented = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in ROW.findall(DOCUMENT)}
    assert documented.keys() == metrics.keys()
    for name, (kind, labels) in metrics.items():
        told_kind, told_labels = documented[name]
        assert told_kind == kind, name
        if told_labels.isdisjoint({"uuid", "endpoint"}):  # this machine may have no card, this server no endpoint
            assert told_labels == labels, name


def test_every_metric_that_the_document_names_anywhere_is_there(metrics: dict[str, Any]) -> None:
    for name in set(re.findall(r"\b(?:deepseek_ocr_(?!mcp\b)|process_)\w+", DOCUMENT)):
        assert name in metrics or re.sub(r"_(bucket|sum|count)$", "", name) in metrics, name


def test_every_outcome_step_and_alert_is_documented() -> None:
    for name in [*outcomes(), *STEPS.values(), *re.findall(r"- alert: (\w+)", RULES)]:
        assert f"`{name}`" in DOCUMENT, name
    for name in re.findall(r"`(Ocr[A-Z]\w+)`", DOCUMENT):
        assert f"- alert: {name}\n" in RULES, name


def test_every_message_of_the_log_is_documented_and_none_that_is_not_there() -> None:
    written = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if ast.unparse(node.func.value) in ("log", "logger") and node.func.attr != "getLogger":
                arguments = node.args[1:] if node.func.attr == "log" else node.args
                for part in ast.walk(arguments[0]):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        written.add(part.value)
    documented = set(re.findall(r"^\| `([A-Z][^`]+\.)` \|", DOCUMENT, re.MULTILINE))
    assert documented == written


def test_prometheus_itself_scrapes_a_server_with_the_example_and_its_token(tmp_path: Path) -> None:
    program = shutil.which("prometheus")
    assert program is not None, "install Debian's package prometheus"
    shutil.copytree(DEPLOY, tmp_path, dirs_exist_ok=True)
    (tmp_path / "deepseek-ocr.token").write_text(TOKEN + "\n")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with http_server(OCR_AUTH_TOKEN=TOKEN) as server:
        config = (DEPLOY / "prometheus.yml").read_text()
        for old, new in (("127.0.0.1:8001", server.root.removeprefix("http://")), ("interval: 15s", "interval: 1s")):
            assert old in config
            config = config.replace(old, new)
        (tmp_path / "prometheus.yml").write_text(config)
        process = subprocess.Popen(
            [
                program,
                "--config.file=prometheus.yml",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            cwd=tmp_path,
            stderr=subprocess.DEVNULL,
        )
        try:

            def ask(path: str, **params: str) -> Any:
                try:
                    answer = httpx2.get(f"http://127.0.0.1:{port}/api/v1/{path}", params=params, timeout=60)
                except httpx2.TransportError:
                    return None
                return answer.json()["data"] if answer.status_code == 200 else None

            def holds(query: str) -> Callable[[], bool]:
                return lambda: bool((found := ask("query", query=query)) and found["result"])

            wait_until(holds('up{job="deepseek-ocr"} == 1'))
            wait_until(holds('deepseek_ocr_build_info{engine="Echo"} == 1'))
            wait_until(holds('deepseek_ocr_model_state{state="unloaded"} == 1'))
            (group,) = ask("rules")["groups"]
            assert len(group["rules"]) == 11
        finally:
            process.kill()
            process.wait()


def test_promtool_finds_nothing_to_mend_in_the_metrics() -> None:
    with http_server("Counting") as server:
        text = httpx2.get(server.root + "/metrics", timeout=BOUND_S).text
    program = shutil.which("promtool")
    assert program is not None
    done = subprocess.run([program, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
