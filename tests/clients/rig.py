"""Starts what the client tests need: Node programs and servers, as real processes; every wait is bounded."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from leftovers import KEPT
from support import BOUND_S, end_process, install_node_modules, node_module_version

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
TYPESCRIPT_CLIENT = HERE / "typescript_client.mjs"
CONFORMANCE_SERVER = HERE / "conformance_server.py"
STDIO_SERVER = (sys.executable, "-m", "deepseek_ocr_mcp")
HTTP_SERVER = (*STDIO_SERVER, "serve", "--transport", "http", "--host", "127.0.0.1", "--port", "0")

READY_TIMEOUT_S = 2 * BOUND_S
NODE_TIMEOUT_S = 4 * BOUND_S
OLDEST_NODE = (22, 19)  # what MCP Inspector asks for


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without the developer's own settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OCR_", "GPU_")) and name not in ("HOST", "PORT")
    }
    return kept | more


# -- node


def install_modules() -> None:
    """Bring node_modules to what package.json says; nothing is done where it is already so."""
    install_node_modules(HERE, _missing_modules)


def _missing_modules() -> list[str]:
    package = json.loads((HERE / "package.json").read_text())
    wanted = dict(package["dependencies"])
    if (own := _node_package()) in package["optionalDependencies"]:
        wanted[own] = package["optionalDependencies"][own]
    return [
        f"{name} {wish}" for name, wish in wanted.items() if node_module_version(HERE, name) != wish.rpartition("@")[2]
    ]


def _node_package() -> str:
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(platform.machine().lower(), platform.machine())
    return f"node-{sys.platform}-{machine}"


def find_node() -> str:
    """Node 22: the one that package.json names, else the system's."""
    bundled = MODULES / _node_package() / "bin" / "node"
    if bundled.is_file():
        return str(bundled)
    system = shutil.which("node")
    if system is None:
        pytest.fail("The client tests need Node, and there is none; scripts/test installs it.")
    said = subprocess.run([system, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    if tuple(int(part) for part in said.strip().lstrip("v").split(".")[:2]) < OLDEST_NODE:
        pytest.fail(f"The client tests need Node 22.19, and {system} is {said.strip()}; scripts/test installs it.")
    return system


@dataclass(frozen=True)
class Ended:
    """A Node program that ended."""

    code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        assert self.code == 0, f"exit {self.code}\n{self.stdout[-2000:]}\n{self.stderr[-4000:]}"
        return json.loads(self.stdout)


class Node:
    """Runs the client programs."""

    def __init__(self, node: str, home: Path) -> None:
        self._node = node
        self._home = home  # MCP Inspector writes a catalogue there

    def run(self, script: Path, *arguments: str) -> Ended:
        environment = clean_environment(HOME=str(self._home), NO_COLOR="1")
        done = subprocess.run(
            [self._node, str(script), *arguments],
            cwd=self._home,
            env=environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=NODE_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def typescript(self, *arguments: str) -> Ended:
        """The TypeScript SDK; the server is `--url …` or `-- command …` at the end."""
        return self.run(TYPESCRIPT_CLIENT, *arguments)

    def inspector(self, *arguments: str) -> Ended:
        """MCP Inspector's command line."""
        launcher = MODULES / "@modelcontextprotocol/inspector/clients/launcher/build/index.js"
        bound = str(int(1000 * BOUND_S))  # for a server to start; 15 s otherwise
        return self.run(launcher, "--cli", "--format", "json", "--quiet", "--connect-timeout", bound, *arguments)

    def conformance(self, suite: str, *arguments: str) -> Ended:
        """The official suite: `2025-11-25` is its 0.1, `2026-07-28` its 0.2."""
        return self.run(MODULES / f"conformance-{suite}" / "dist/index.js", "server", *arguments)


# -- servers


@contextmanager
def serving(command: Sequence[str], settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """A server process; yields the address that it prints. It is dead afterwards, whatever happens."""
    said: list[str] = []
    found = threading.Event()
    addresses: list[str] = []
    environment = clean_environment(PYTHONUNBUFFERED="1", **(settings or {}))

    with subprocess.Popen(
        list(command),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        KEPT.add(process.pid)  # the tests of a session share it

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                said.append(line)
                if not addresses and (match := re.search(r"http://\S+/mcp", line)):
                    addresses.append(match[0])
                    found.set()
            found.set()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            found.wait(READY_TIMEOUT_S)
            if not addresses:
                pytest.fail(f"{' '.join(command)} did not come up:\n{''.join(said)[-4000:]}")
            yield addresses[0]
        finally:
            end_process(process)
            reader.join(BOUND_S)
