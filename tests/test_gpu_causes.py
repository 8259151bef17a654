"""Why a card cannot be used: every cause by fakes, with a message that names what is wrong and a remedy that helps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deepseek_ocr_mcp.gpu import causes
from deepseek_ocr_mcp.gpu.causes import (
    CardFacts,
    DriverFacts,
    TorchBuild,
    card_not_compiled_for,
    cause_of_cuda_error,
    host_facts,
    parse_torch_version,
    remarks,
    torch_build,
    unusable,
)

CU13 = TorchBuild("2.13.0+cu130", (13, 0))
CU12 = TorchBuild("2.13.0+cu126", (12, 6))
DRIVER = DriverFacts("580.65.06", (13, 0))
CARD = CardFacts("NVIDIA A10", (8, 6))


def test_a_card_with_nothing_against_it_is_usable() -> None:
    assert unusable(CU13, DRIVER, CARD) is None
    assert remarks(DRIVER, CARD) == []


@pytest.mark.parametrize(
    ("build", "driver", "card", "code", "words"),
    [
        (TorchBuild("2.13.0+cpu", None), DRIVER, CARD, "torch_without_cuda", ["2.13.0+cpu", "CPU only"]),
        (TorchBuild("2.13.0", None, hip=True), DRIVER, CARD, "torch_without_cuda", ["AMD"]),
        (
            CU13,
            DriverFacts("570.12", (12, 8)),
            CARD,
            "driver_too_old",
            ["570.12", "CUDA 12.8", "CUDA 13.0", "driver 580"],
        ),
        (CU12, DriverFacts("470.1", (11, 4)), CARD, "driver_too_old", ["driver 525"]),
        (TorchBuild("9.0", (15, 0)), DRIVER, CARD, "driver_too_old", ["a driver that runs CUDA 15"]),
        (CU13, DRIVER, CardFacts("Tesla V100", (7, 0)), "card_too_old", ["Tesla V100", "7.0", "7.5"]),
        (CU12, DRIVER, CardFacts("Tesla K80", (3, 7)), "card_too_old", ["5.0"]),
        (CU13, replace(DRIVER, has_uvm=False), CARD, "no_uvm_device", ["/dev/nvidia-uvm", "nvidia-modprobe"]),
        (CU13, DRIVER, replace(CARD, mode="prohibited"), "compute_prohibited", ["Prohibited"]),
        (CU13, DRIVER, replace(CARD, mode="exclusive", strangers=(41, 42)), "card_exclusive", ["41, 42"]),
        (CU13, DRIVER, replace(CARD, fabric="in progress"), "fabric_starting", ["802", "Wait a minute"]),
        (CU13, DRIVER, replace(CARD, fabric="not started"), "fabric_down", ["802", "nvidia-fabricmanager"]),
        (CU13, DRIVER, replace(CARD, fabric="failed"), "fabric_down", ["802"]),
    ],
)
def test_each_cause_is_named_with_its_remedy(
    build: TorchBuild, driver: DriverFacts, card: CardFacts, code: str, words: list[str]
) -> None:
    cause = unusable(build, driver, card)
    assert cause is not None
    assert cause.code == code
    for word in words:
        assert word in f"{cause.message} {cause.remedy}"


@pytest.mark.parametrize(
    ("build", "driver", "card"),
    [
        (CU13, DriverFacts(), CardFacts()),  # NVML tells nothing: nothing is held against the card
        (None, DriverFacts("470.1", (11, 4)), CardFacts("Tesla K80", (3, 7))),  # an engine without torch
        (CU13, DriverFacts("550.54", (13, 0)), CARD),  # NVIDIA's compatibility package
        (CU12, DriverFacts("535.1", (12, 2)), CARD),  # an older minor release runs the newer code
        (CU13, DRIVER, replace(CARD, mode="exclusive")),  # and nobody has it
        (CU13, DRIVER, replace(CARD, fabric="ready")),
        (CU13, DRIVER, replace(CARD, capability=(7, 5))),
    ],
)
def test_what_is_no_obstacle_is_not_taken_for_one(build: TorchBuild, driver: DriverFacts, card: CardFacts) -> None:
    assert unusable(build, driver, card) is None


def test_a_card_without_bf16_and_a_driver_that_spills_are_told_as_remarks() -> None:
    [slow] = remarks(DRIVER, CardFacts("Tesla T4", (7, 5)))
    assert "Tesla T4" in slow
    assert "emulates" in slow
    [spill] = remarks(replace(DRIVER, spills=True), CARD)
    assert "Sysmem Fallback" in spill


def test_the_build_of_torch_is_read_from_its_text() -> None:
    assert parse_torch_version(
        "__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\nhip: Optional[str] = None\n"
    ) == (TorchBuild("2.13.0+cpu", None))
    assert parse_torch_version("__all__ = ['__version__', 'cuda']\n__version__ = '2.13.0'\ncuda = '13.0'\n") == (
        TorchBuild("2.13.0", (13, 0))
    )
    assert parse_torch_version("__version__ = '2.13.0'\ncuda: Optional[str] = None\nhip: Optional[str] = '7.0'\n") == (
        TorchBuild("2.13.0", None, hip=True)
    )
    assert parse_torch_version("nothing of the kind") is None


def test_the_installed_torch_is_read_as_torch_itself_says() -> None:
    torch = pytest.importorskip("torch")
    build = torch_build()
    assert build is not None
    assert build.version == torch.__version__
    assert build.cuda == (tuple(map(int, torch.version.cuda.split("."))) if torch.version.cuda else None)
    assert build.hip == (torch.version.hip is not None)


def test_a_torch_that_is_not_installed_or_not_readable_is_no_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(causes, "find_spec", lambda _: None)
    assert torch_build() is None
    monkeypatch.undo()
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "torch", raising=False)
    assert torch_build() is None


def test_this_machine_has_its_device_files_and_no_spilling_driver() -> None:
    import sys

    has_uvm, spills = host_facts()
    assert has_uvm or Path("/dev/nvidiactl").exists()
    assert spills is (sys.platform == "win32") or "microsoft" in Path("/proc/version").read_text().lower()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("CUDA driver version is insufficient for CUDA runtime version", "driver_too_old"),
        ("The NVIDIA driver on your system is too old (found version 12080).", "driver_too_old"),
        ("CUDA error: no kernel image is available for execution on the device", "card_not_compiled_for"),
        ("Error 802: system not yet initialized", "fabric_down"),
        ("CUDA error: CUDA-capable device(s) is/are busy or unavailable", "card_exclusive"),
        ("CUDA error: no CUDA-capable device is detected", "card_gone"),
        ("No CUDA GPUs are available", "card_gone"),
        ("CUDA unknown error - this may be due to an incorrectly set up environment", "no_uvm_device"),
        ("Torch not compiled with CUDA enabled", "torch_without_cuda"),
    ],
)
def test_what_cuda_says_at_its_start_is_understood(text: str, code: str) -> None:
    cause = cause_of_cuda_error(text)
    assert cause is not None
    assert cause.code == code
    assert cause.message
    assert cause.remedy


@pytest.mark.parametrize("text", ["CUDA error: an illegal memory access was encountered", "CUDA out of memory", ""])
def test_an_error_of_the_card_at_work_is_no_cause(text: str) -> None:
    assert cause_of_cuda_error(text) is None


PYPI_ARCHS = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0), (13, 0)])
def test_code_for_a_lower_minor_and_portable_code_are_enough(capability: tuple[int, int]) -> None:
    assert card_not_compiled_for(capability, PYPI_ARCHS, "2.13.0") is None


def test_a_card_that_no_code_was_compiled_for_is_named() -> None:
    cause = card_not_compiled_for((7, 0), PYPI_ARCHS, "2.13.0")
    assert cause is not None
    assert "7.0" in cause.message
    assert "sm_75" in cause.message
    assert card_not_compiled_for((13, 0), ["sm_90a"], "2.13.0") is not None
    assert card_not_compiled_for((9, 0), [], "2.13.0") is None  # nobody knows
