"""The checks of the first day on a card, on a card that is played here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from deepseek_ocr_mcp.app.run import card_checks
from deepseek_ocr_mcp.config import Settings
from deepseek_ocr_mcp.engines.base import PageImage
from deepseek_ocr_mcp.gpu.causes import TorchBuild
from deepseek_ocr_mcp.gpu.probe import GpuProbe
from deepseek_ocr_mcp.lifecycle import first_day
from deepseek_ocr_mcp.lifecycle.clone_checks import CLONE_COMMANDS
from deepseek_ocr_mcp.lifecycle.first_day import WORD, Check, checks_on_a_card, draw_page, gpu_checks
from deepseek_ocr_mcp.worker.client import WorkerDied
from fake_nvml import FakeNvml
from fake_worker import FakeWorker
from manager_house import House

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("virtual_time")]

PAGE = PageImage("/nowhere", 10, 10)
BEFORE, NAMES = list(first_day.NAMES[:3]), list(first_day.NAMES[3:])


@pytest.fixture
def reads_the_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers read the word; who read it does not show."""
    call = FakeWorker.call

    async def worded(self: FakeWorker, method: str, arguments: Any, **how: Any) -> dict[str, Any]:
        reply = await call(self, method, arguments, **how)
        for page in reply.get("pages", ()):
            page |= {"text": f"# {WORD}\n", "tokens": 40}
        return reply

    monkeypatch.setattr(FakeWorker, "call", worded)


def still(**settings: Any) -> House:
    return House(cards=[20_000], opens=True, **{"gpu_offload_after": -1, "gpu_idle_timeout": -1, **settings})


async def checked(house: House) -> dict[str, Check]:
    async with house.open() as manager:
        return {check.name: check async for check in checks_on_a_card(manager, PAGE)}


@pytest.mark.usefixtures("reads_the_word")
async def test_a_card_on_which_all_is_well_passes_every_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_day, "RESTORE_S", 10.0)
    found = await checked(still())
    assert list(found) == NAMES
    assert all(check.passed for check in found.values()), found
    assert "Nothing of ours is on the card" in found["offload"].found


@pytest.mark.usefixtures("reads_the_word")
async def test_each_promise_that_is_not_kept_is_told_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    found = await checked(still(ocr_park="resident"))
    assert not found["offload"].passed
    assert "OCR_PARK" in found["offload"].remedy
    assert not found["restore"].passed  # two seconds
    spoiled = still()
    spawn = spawned_spoiled(spoiled)
    monkeypatch.setattr(spoiled.manager, "_spawn", spawn)
    found = await checked(spoiled)
    assert "could not be recorded" in found["recorded steps"].found


def spawned_spoiled(house: House) -> Any:
    async def spawn(*arguments: Any) -> FakeWorker:
        worker = await house.spawn(*arguments)
        worker.spoiled = "stream is capturing"
        return worker

    return spawn


async def test_a_model_that_reads_another_word_is_told() -> None:
    found = await checked(still())
    assert not found["read"].passed
    assert WORD in found["read"].remedy
    assert "too few" in found["recorded steps"].found
    assert not found["same text"].passed  # another worker read it, and says so


async def test_an_error_ends_the_checks_at_its_step() -> None:
    house = House(cards=[20_000], opens=True, failures=[WorkerDied(-9, ""), WorkerDied(-9, "")])
    found = await checked(house)
    assert list(found) == ["load"]
    assert "SIGKILL" in found["load"].found
    assert list(await checked(House(cards=[100], opens=True))) == ["load"]


def test_the_checklist_names_the_checks_in_their_order() -> None:
    page = (Path(__file__).parents[2] / "docs" / "first-day-on-a-gpu.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \d+ \| `([^`]+)` \|", page, re.MULTILINE) == BEFORE + NAMES
    assert re.findall(r"^- `([^`]+)`: `(?:python|pytest)", page, re.MULTILINE) == [one.name for one in CLONE_COMMANDS]


async def test_before_loading_the_card_torch_and_the_weights_are_looked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nvml = FakeNvml()
    monkeypatch.setattr(first_day, "GpuProbe", lambda: GpuProbe(nvml, sees_host_pids=True))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("deepseek_ocr_mcp.engines.hub.cache_folders", list)
    [nothing] = [check async for check in gpu_checks(Settings(), tmp_path)]
    assert (nothing.name, nothing.passed) == ("cards", False)
    first, *skipped = [check async for check in card_checks(Settings())]
    assert first == nothing
    assert [check.name for check in skipped] == [*first_day.NAMES[1:], *(one.name for one in CLONE_COMMANDS)]
    assert all(check.is_skipped and check.found == "Not run, because of 'cards'." for check in skipped)
    nvml.add_card(name="NVIDIA H200", free_mb=140_000)
    found = {check.name: check async for check in gpu_checks(Settings(), tmp_path)}
    assert list(found) == BEFORE
    assert found["cards"].passed
    assert "NVIDIA H200" in found["cards"].found
    assert found["weights"].remedy == "deepseek-ocr-mcp download"
    assert "deepseek-community/DeepSeek-OCR-2" in found["weights"].found


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ocr_gpu": "MIG-yesterday"}, "names no GPU here"),
        ({"ocr_gpu": "cpu"}, "OCR_GPU=cpu"),
        ({"ocr_gpu_reserve_mb": 1_000}, "9.6 GiB needed"),
    ],
)
async def test_a_card_that_the_settings_forbid_is_told_before_weights_are_fetched_for_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    nvml = FakeNvml()
    nvml.add_card(name="NVIDIA A2000", total_mb=9_500, free_mb=9_400)
    monkeypatch.setattr(first_day, "GpuProbe", lambda: GpuProbe(nvml, sees_host_pids=True))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("deepseek_ocr_mcp.engines.hub.cache_folders", list)
    found = {check.name: check async for check in gpu_checks(Settings(**settings), tmp_path)}
    assert list(found) == ["cards", "torch", "weights"]
    assert not found["cards"].passed
    assert words in found["cards"].found
    assert found["cards"].remedy


async def test_torch_is_named_once_where_a_cause_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nvml = FakeNvml()
    nvml.add_card()
    nvml.cuda = 12_080
    monkeypatch.setattr(first_day, "GpuProbe", lambda: GpuProbe(nvml, sees_host_pids=True))
    monkeypatch.setattr(first_day, "torch_build", lambda: TorchBuild("2.13.0+cu130", (13, 0)))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    found = {check.name: check async for check in gpu_checks(Settings(), tmp_path)}
    assert not found["torch"].passed
    assert found["torch"].found.count("2.13.0+cu130") == 1


def test_the_page_shows_the_word(tmp_path: Path) -> None:
    from PIL import Image

    page = draw_page(tmp_path / "page.rgb")
    pixels = Path(page.path).read_bytes()
    assert len(pixels) == 3 * page.width * page.height
    image = Image.frombytes("RGB", (page.width, page.height), pixels)
    dots = image.resize((page.width // 8, page.height // 8), Image.Resampling.NEAREST).convert("1")
    assert dots.getbbox() is not None
    black = sum(1 for dot in dots.tobytes() for bit in range(8) if not dot >> bit & 1)
    assert black > 400  # strokes, and white around them
    assert dots.getpixel((3, 5)) == 0  # the upper left dot of H
    assert dots.getpixel((0, 0)) == 255
