"""Installs the Node clients once, starts the servers once, and finds a page to read."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.rig import CONFORMANCE_SERVER, HTTP_SERVER, Node, find_node, install_modules, serving

RECEIPT = Path(__file__).parents[2] / "examples" / "pages" / "receipt.png"
TOKEN = "a-token-for-tests-only"


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    install_modules()
    return Node(find_node(), tmp_path_factory.mktemp("node-home"))


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page that says TOTAL somewhere."""
    if RECEIPT.is_file():
        return RECEIPT
    from PIL import Image, ImageDraw, ImageFont

    path = tmp_path_factory.mktemp("pages") / "receipt.png"
    image = Image.new("RGB", (640, 240), "white")
    drawn = ImageDraw.Draw(image)
    drawn.text((40, 40), "Coffee 3.20", fill="black", font=ImageFont.load_default(48))
    drawn.text((40, 120), "TOTAL 42.50 EUR", fill="black", font=ImageFont.load_default(48))
    image.save(path)
    return path


@pytest.fixture(scope="session")
def document(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page twice."""
    from PIL import Image

    path = tmp_path_factory.mktemp("documents") / "two-receipts.tif"
    with Image.open(page) as image:
        image.save(path, save_all=True, append_images=[image.copy()])
    return path


@pytest.fixture(scope="session")
def http_url(page: Path, document: Path) -> Iterator[str]:
    """Our server as users start it, with leave to read the pages' folders."""
    # Every test wants its page read: nothing is told of a page that is there already.
    folders = os.pathsep.join((str(page.parent), str(document.parent)))
    with serving(HTTP_SERVER, {"OCR_ALLOWED_DIRS": folders, "OCR_CACHE": "off"}) as url:
        yield url


@pytest.fixture(scope="session")
def guarded_url() -> Iterator[str]:
    """Our server, asking for a bearer token."""
    with serving(HTTP_SERVER, {"OCR_AUTH_TOKEN": TOKEN}) as url:
        yield url


@pytest.fixture(scope="session")
def fixtures_url() -> Iterator[str]:
    """Our server with the conformance suites' fixtures beside our tools."""
    with serving([sys.executable, str(CONFORMANCE_SERVER)]) as url:
        yield url


@pytest.fixture(scope="session")
def token() -> str:
    return TOKEN
