"""Each query of the Grafana dashboard is answered: a real Prometheus scrapes a server that has read pages.

Prometheus runs with the configuration of deploy/compose.gpu.yml. The server believes that it has a card.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from deepseek_ocr_mcp.logs import LEVELS
from support import as_base64, http_server, png, wait_until

DEPLOY = Path(__file__).parents[1] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "deepseek-ocr.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TOKEN = "correct-horse-battery-staple"
A_CARD = """\
import sys
from fake_nvml import FakeNvml
nvml = FakeNvml()
nvml.add_card(free_mb=40_000)
sys.modules[__name__] = nvml
"""


def targets(kind: str) -> list[tuple[str, str, str]]:
    """Title of the panel, query and legend."""
    return [
        (panel["title"], target["expr"], target["legendFormat"])
        for panel in PANELS
        for target in panel["targets"]
        if target["datasource"]["type"] == kind
    ]


class Prometheus:
    def __init__(self, folder: Path, server: str) -> None:
        for name in ("compose.yml", "alerts.yml"):
            shutil.copy(DEPLOY / "prometheus" / name, folder)
        (folder / "token").write_text(TOKEN)
        config = (folder / "compose.yml").read_text()
        for old, new in (("/run/secrets/ocr_token", str(folder / "token")), ("interval: 15s", "interval: 500ms")):
            assert old in config
            config = config.replace(old, new)
        (folder / "prometheus.yml").write_text(config)
        compose = yaml.safe_load((DEPLOY / "compose.gpu.yml").read_text())
        content = compose["configs"]["targets"]["content"]
        (folder / "targets.yml").write_text(content.replace("${OCR_TARGETS:-ocr:8001}", server))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        program = shutil.which("prometheus")
        assert program is not None, "install Debian's package prometheus"
        self._http = httpx2.Client(base_url=f"http://127.0.0.1:{port}/api/v1/", timeout=60)
        self.process = subprocess.Popen(
            [program, "--config.file=prometheus.yml", f"--storage.tsdb.path={folder / 'data'}",
             f"--web.listen-address=127.0.0.1:{port}"],
            cwd=folder, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def ask(self, path: str, **params: str) -> Any:
        try:
            answer = self._http.get(path, params=params)
        except httpx2.TransportError:
            return None
        if answer.status_code == 400:
            pytest.fail(f"{params}: {answer.json()['error']}")
        return answer.json()["data"] if answer.status_code == 200 else None

    def query(self, expression: str) -> list[dict[str, Any]]:
        expression = expression.replace("$instance", ".*").replace("$__rate_interval", "1m")
        found = self.ask("query", query=expression)
        return found["result"] if found else []

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._http.close()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "pynvml.py").write_text(A_CARD)
    tests = Path(__file__).parent
    path = f"{folder}:{tests}:{tests / 'engines'}"
    with http_server("Counting", PYTHONPATH=path, OCR_AUTH_TOKEN=TOKEN) as server:
        made = Prometheus(folder, server.root.removeprefix("http://"))
        try:
            scraped = 'count_over_time(up{job="deepseek-ocr"}[1m])'
            headers = {"Authorization": f"Bearer {TOKEN}"}

            def twice_more() -> None:
                """Two scrapes: what changes shows between them."""
                before = float(found[0]["value"][1]) if (found := made.query(scraped)) else 0
                wait_until(lambda: (now := made.query(scraped)) and float(now[0]["value"][1]) >= before + 2)

            twice_more()
            for width in (41, 42):  # a series that comes with the first page has its second value after the second
                page = {"image": as_base64(png(width))}
                assert httpx2.post(server.root + "/ocr", json=page, headers=headers, timeout=60).status_code == 200
                twice_more()
            yield made
        finally:
            made.close()


@pytest.mark.parametrize(("title", "query", "legend"), targets("prometheus"))
def test_each_query_is_answered_by_our_metrics(prometheus: Prometheus, title: str, query: str, legend: str) -> None:
    wait_until(lambda: prometheus.query(query))
    for series in prometheus.query(query):
        for label in re.findall(r"\{\{(\w+)\}\}", legend):
            assert label in series["metric"], f"{title}: its legend asks for {label}"


def test_the_dashboard_offers_the_servers_to_choose_from(prometheus: Prometheus) -> None:
    (variable,) = DASHBOARD["templating"]["list"]
    found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
    assert found is not None
    assert prometheus.ask(f"label/{found[2]}/values", **{"match[]": found[1]})


def test_what_must_not_happen_is_counted_as_zero_from_the_beginning(prometheus: Prometheus) -> None:
    """A panel that shows nothing looks like one that is broken."""
    for title, query, _ in targets("prometheus"):
        if "died" in title or "not returned" in title:
            assert {float(series["value"][1]) for series in prometheus.query(query)} == {0}


def test_the_logs_are_asked_for_by_the_label_that_they_are_sent_with_and_by_levels_that_there_are() -> None:
    alloy = (DEPLOY / "loki" / "config.alloy").read_text()
    (query,) = (query for _, query, _ in targets("loki"))
    job = re.search(r'job="([^"]+)"', query)
    assert job is not None
    assert f'labels        = {{ job = "{job[1]}" }}' in alloy
    levels = re.search(r'level=~"([^"]+)"', query)
    assert levels is not None
    assert set(levels[1].split("|")) <= {*LEVELS}


def test_data_sources_and_folders_are_those_that_grafana_is_given() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    sources = yaml.safe_load((provisioning / "datasources" / "datasources.yml").read_text())["datasources"]
    uids = {source["uid"] for source in sources}
    assert {target["datasource"]["uid"] for panel in PANELS for target in panel["targets"]} <= uids
    compose = yaml.safe_load((DEPLOY / "compose.gpu.yml").read_text())["services"]
    for source in sources:
        host = re.fullmatch(r"http://(\w+):\d+", source["url"])
        assert host is not None
        assert host[1] in compose
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "dashboards.yml").read_text())["providers"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in compose["grafana"]["volumes"]


def test_no_two_panels_lie_over_each_other() -> None:
    taken = set()
    for panel in DASHBOARD["panels"]:
        grid = panel["gridPos"]
        cells = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
