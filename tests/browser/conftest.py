"""A real Chromium, started once for all tests of a module."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

from browser.rig import WAIT_MS, Visitor, bundle_host
from support import install_node_modules, node_module_version

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
SHELL = "chromium-headless-shell"
"""Chromium without a window around the page. Per page it takes half the CPU of the whole browser."""
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A camera that shows a clock and colours, and nobody who would have to be asked.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--auto-select-tab-capture-source-by-title=DeepSeek OCR",
]
FEATURES_OFF = [
    # The address bar of the whole browser loads two pages of its own for each profile: half a second of a core.
    "WebUIOmniboxPopup",
    "WebUIOmniboxAimPopup",
    # Chromium takes the last of several lists, so these are the ones that Playwright itself switches off.
    "AimEnabled",
    "AvoidCorsURLLoaderRestartOnRedirect",
    "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DestroyProfileOnBrowserClose",
    "HttpsFirstBalancedModeAutoEnable",
    "HttpsUpgrades",
    "LensOverlay",
    "MediaRouter",
    "NetworkTimeServiceQuerying",
    "OptimizationHints",
    "PaintHolding",
    "PreconnectToSearch",
    "TcpPortRandomizationWin",
    "ThirdPartyStoragePartitioning",
]


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    # Of a module, not of the session: while it lives, no other test could run an event loop.
    with sync_playwright() as made:
        yield made


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    path = shutil.which(SHELL) or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.fail("The browser tests need Chromium, and there is none; scripts/test installs it.")
    flags = FLAGS if path.endswith(SHELL) else [*FLAGS, f"--disable-features={','.join(FEATURES_OFF)}"]
    made = playwright.chromium.launch(executable_path=path, args=flags, timeout=2 * WAIT_MS)
    yield made
    made.close()


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Visitor]:
    made = Visitor(browser)
    yield made
    made.close()


@pytest.fixture(scope="session")
def modules() -> Path:
    """The packages that package.json names, installed once."""
    wanted: dict[str, str] = json.loads((HERE / "package.json").read_text())["dependencies"]

    def missing() -> list[str]:
        return [name for name, version in wanted.items() if node_module_version(HERE, name) != version]

    install_node_modules(HERE, missing)
    return MODULES


@pytest.fixture(scope="session")
def axe(modules: Path) -> str:
    """The source of axe-core."""
    return (modules / "axe-core" / "axe.min.js").read_text()


@pytest.fixture(scope="session")
def host_script(modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script of the test host, with the reference library in it."""
    return bundle_host(modules, tmp_path_factory.mktemp("host") / "host.js")
