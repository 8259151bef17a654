"""Opened without a card, placed on one: what happens before the first page, on a card that is played here."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import tiny_deepseek
from calls import Caller

from deepseek_ocr_mcp.engines.base import PageImage, ReadOptions
from deepseek_ocr_mcp.engines.host import EngineHost
from deepseek_ocr_mcp.engines.vision_models import model_named
from deepseek_ocr_mcp.errors import EngineUnavailable, GpuBusy, GpuLost

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from deepseek_ocr_mcp.engines.deepseek import engine as module  # noqa: E402
from deepseek_ocr_mcp.engines.deepseek.engine import MODEL_PATH, DeepSeekEngine  # noqa: E402
from deepseek_ocr_mcp.engines.deepseek.slots import Slots  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_deepseek.make_v1(tmp_path_factory.mktemp("engine") / "tiny-v1")


@pytest.fixture(autouse=True)
def environment(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MODEL_PATH, str(model))
    monkeypatch.setattr(module, "usable_cores", lambda: 1)
    monkeypatch.setattr(Slots, "recordable", True)


def test_opening_calls_nothing_of_cudas_so_that_the_card_can_still_be_chosen() -> None:
    calls: Counter[str] = Counter()

    def watch(frame: Any, event: str, argument: Any) -> None:
        if event == "call" and "/torch/cuda/" in frame.f_code.co_filename.replace("\\", "/"):
            calls[frame.f_code.co_name] += 1
        if event == "c_call" and getattr(argument, "__name__", "").startswith(("_cuda", "cuda")):
            calls[argument.__name__] += 1

    engine = DeepSeekEngine()
    sys.setprofile(watch)
    try:
        for _ in range(2):  # the first converts the checkpoint, the second maps the fused file
            engine.open("cuda", Caller())
        assert not calls
        torch.cuda.is_available()
        assert calls  # or the test would see nothing
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize(("mode", "is_named"), [("document", True), ("free", True), ("ocr", False), ("find", False)])
def test_the_default_model_remarks_on_a_mode_whose_prompt_its_publisher_does_not_name(
    second: DeepSeekEngine, tmp_path: Path, mode: str, is_named: bool
) -> None:
    (tmp_path / "page.rgb").write_bytes(bytes(range(256)) * 300)
    [page] = second.read([PageImage(str(tmp_path / "page.rgb"), 160, 160)], ReadOptions(mode, "x"), Caller())
    assert page.remark == ("" if is_named else model_named("DeepSeek-OCR-2").remarks[mode])


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> DeepSeekEngine:
    folder = tiny_deepseek.make_v2(tmp_path_factory.mktemp("engine") / "tiny-v2", original=True)
    engine = DeepSeekEngine()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MODEL_PATH, str(folder))
        patch.setattr(module, "usable_cores", lambda: 1)
        engine.load("cpu", Caller())
    return engine


def test_what_was_opened_reads_like_what_was_loaded(tmp_path: Path) -> None:
    (tmp_path / "page.rgb").write_bytes(bytes(range(256)) * 300)
    pages = [PageImage(str(tmp_path / "page.rgb"), 160, 160)]
    options = ReadOptions("document", resolution="tiny")
    loaded, opened = DeepSeekEngine(), DeepSeekEngine()
    facts = loaded.load("cpu", Caller())
    assert opened.open("cpu", Caller()) == facts
    opened.restore("cpu")
    assert opened.read(pages, options, Caller()) == loaded.read(pages, options, Caller())


class SecondCall(Caller):
    """The line to a parent that adds the pages of a second call to the first once two steps have been asked for."""

    def __init__(self, pages: list[PageImage]) -> None:
        self.pages = [asdict(page) for page in pages]
        self.told: list[dict[str, Any]] = []
        self.asked = 0

    def tell(self, **facts: Any) -> None:
        self.told.append(facts)

    def added(self) -> list[dict[str, Any]]:
        self.asked += 1
        return self.pages if self.asked == 3 else []


def test_pages_of_two_calls_share_steps_and_are_what_they_are_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = []
    for number in range(4):
        (tmp_path / f"{number}.rgb").write_bytes(bytes((7 * number + n * n) % 256 for n in range(256)) * 300)
        pages.append(PageImage(str(tmp_path / f"{number}.rgb"), 160, 160))
    host = EngineHost("deepseek_ocr_mcp.engines.deepseek.engine:DeepSeekEngine")
    host.load("cpu", {}, Caller())
    options = {"mode": "document", "resolution": "tiny"}

    def read(pages: list[PageImage], joining: list[PageImage]) -> list[dict[str, Any]]:
        line = SecondCall(joining)
        answer = host.read([asdict(page) for page in pages], options, line)
        answers = {facts["page"]: facts["answer"] for facts in line.told if "page" in facts}
        assert answer["pages"] == [None] * len(answers)  # each was sent when it had ended
        return [answers[number] for number in range(len(answers))]

    alone = [read([page], [])[0] for page in pages]
    assert len({answer["raw"] or answer["text"] for answer in alone}) > 1
    together: list[int] = []
    write = Slots.write
    monkeypatch.setattr(Slots, "write", lambda self, tokens: (together.append(len(tokens)), write(self, tokens))[1])
    assert read(pages[:2], pages[2:]) == alone
    assert max(together) == 4


class FakeCuda:
    """`torch.cuda` on a card that fails, or does not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failing: Exception | None = None
        self.capability = (8, 6)
        self.archs = ["sm_75", "sm_80", "sm_86"]
        self.started = False
        monkeypatch.setattr(torch.cuda, "init", self.init)
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: self.started)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: self.capability)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: self.archs)
        monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)
        monkeypatch.setattr(DeepSeekEngine, "open", self.open)
        self.opened = 0

    def init(self) -> None:
        if self.failing is not None:
            raise self.failing
        self.started = True

    def open(self, *_: Any) -> dict[str, Any]:
        self.opened += 1
        raise KeyError("opened")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(monkeypatch)


@pytest.mark.parametrize(
    ("failure", "expected", "words"),
    [
        (RuntimeError("The NVIDIA driver on your system is too old (found 12020)."), EngineUnavailable, "older"),
        (RuntimeError("Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized"),
         EngineUnavailable, "nvidia-fabricmanager"),
        (torch.AcceleratorError("CUDA error: CUDA-capable device(s) is/are busy or unavailable"),
         EngineUnavailable, "Exclusive"),
        (RuntimeError("No CUDA GPUs are available"), EngineUnavailable, "nvidia-smi -L"),
        (RuntimeError("CUDA unknown error - this may be due to an incorrectly set up environment"),
         EngineUnavailable, "nvidia-modprobe"),
        (AssertionError("Torch not compiled with CUDA enabled"), EngineUnavailable, "CPU only"),
        (torch.AcceleratorError("CUDA error: out of memory"), GpuBusy, "no room"),
        (torch.AcceleratorError("CUDA error: an ECC error"), GpuLost, "ECC"),
    ],
)  # fmt: skip
def test_a_card_that_cannot_be_used_is_told_before_a_weight_is_read(
    cuda: FakeCuda, failure: Exception, expected: type[Exception], words: str
) -> None:
    cuda.failing = failure
    with pytest.raises(expected, match=words):
        DeepSeekEngine().load("cuda", Caller())
    assert cuda.opened == 0


def test_a_card_that_torch_has_no_code_for_is_told_before_a_weight_is_read(cuda: FakeCuda) -> None:
    cuda.capability = (7, 0)
    with pytest.raises(EngineUnavailable, match=r"compute capability 7\.0.*sm_75"):
        DeepSeekEngine().load("cuda", Caller())
    assert cuda.opened == 0
    cuda.capability = (8, 9)
    with pytest.raises(KeyError, match="opened"):
        DeepSeekEngine().load("cuda", Caller())


def test_a_worker_that_is_told_so_records_no_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(module.RECORD, "off")
    DeepSeekEngine().open("cpu", Caller())
    assert not Slots.recordable


IMPORTED = """
import sys
from deepseek_ocr_mcp.engines.deepseek.engine import DeepSeekEngine
engine = DeepSeekEngine()
engine.prewarm()
before = set(sys.modules)
engine.open("cpu", type("Call", (), {"progress": lambda *_: None, "raise_if_cancelled": lambda *_: None})())
late = sorted(name for name in set(sys.modules) - before if name.count(".") < 2 or "modeling" in name)
print(" ".join(late))
"""


def test_a_prewarmed_worker_imports_nothing_large_any_more() -> None:
    DeepSeekEngine().open("cpu", Caller())  # so that the fused file is there
    child = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True, timeout=300)
    late = child.stdout.split()
    assert not [name for name in late if name.startswith(("torch", "transformers.models")) or "modeling" in name]
    assert len(late) < 20
