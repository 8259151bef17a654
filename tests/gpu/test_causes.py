"""Why a card cannot be used: every cause by fakes, with a message that names what is wrong and a remedy that helps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deepseek_ocr_mcp.config import Settings
from deepseek_ocr_mcp.errors import EngineUnavailable, GpuBusy
from deepseek_ocr_mcp.gpu import causes as module
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
from deepseek_ocr_mcp.gpu.choice import CardRequest, choose_gpu, examine
from deepseek_ocr_mcp.gpu.probe import GpuProbe
from deepseek_ocr_mcp.lifecycle import build
from fake_nvml import FakeNvml

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
    monkeypatch.setattr(module, "find_spec", lambda _: None)
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


# -- what the probe finds


def test_the_probe_reads_the_facts_of_driver_and_card(nvml: FakeNvml, probe: GpuProbe) -> None:
    card = nvml.add_card(name="NVIDIA H200", capability=(9, 0), compute_mode=3, fabric_state=2)
    card.take(pid=7, mb=100)
    card.take(pid=8, mb=100)
    driver, facts = probe.facts([card.uuid], ours=[8])
    assert (driver.release, driver.cuda) == ("580.65.06", (13, 0))
    assert facts[card.uuid] == CardFacts("NVIDIA H200", (9, 0), "exclusive", (7,), "in progress")


@pytest.mark.parametrize(
    ("state", "status", "fabric"),
    [(0, 0, "none"), (1, 0, "not started"), (2, 0, "in progress"), (3, 0, "ready"), (3, 999, "failed")],
)
def test_the_state_of_the_switches_is_read(
    nvml: FakeNvml, probe: GpuProbe, state: int, status: int, fabric: str
) -> None:
    card = nvml.add_card(fabric_state=state, fabric_status=status)
    assert probe.facts([card.uuid])[1][card.uuid].fabric == fabric


def test_of_a_mig_device_the_card_is_asked(nvml: FakeNvml, probe: GpuProbe) -> None:
    card = nvml.add_card(capability=(9, 0))
    card.add_mig("MIG-a")
    assert probe.facts(["MIG-a"])[1]["MIG-a"].capability == (9, 0)


def test_where_process_ids_are_hidden_ours_is_no_stranger(nvml: FakeNvml) -> None:
    card = nvml.add_card(compute_mode=3)
    card.take(pid=7, mb=100)
    hidden = GpuProbe(nvml, sees_host_pids=False)
    assert hidden.facts([card.uuid], ours=[8])[1][card.uuid].strangers == ()
    assert hidden.facts([card.uuid])[1][card.uuid].strangers == (7,)


@pytest.mark.parametrize(
    "function",
    [
        "nvmlInit",
        "nvmlSystemGetDriverVersion",
        "nvmlSystemGetCudaDriverVersion_v2",
        "nvmlDeviceGetHandleByUUID",
        "nvmlDeviceGetCudaComputeCapability",
        "nvmlDeviceGetComputeMode",
        "nvmlDeviceGetComputeRunningProcesses",
        "nvmlDeviceGetGpuFabricInfoV",
    ],
)
def test_a_fact_that_nvml_does_not_tell_is_not_held_against_a_card(
    nvml: FakeNvml, probe: GpuProbe, function: str
) -> None:
    card = nvml.add_card()
    nvml.failing[function] = nvml.NVML_ERROR_NOT_SUPPORTED
    assert examine(probe, [card.uuid], CU13) == ({}, {})


def test_cards_that_cannot_be_used_are_passed_over_and_named_when_there_is_no_other(
    nvml: FakeNvml, probe: GpuProbe
) -> None:
    old = nvml.add_card(name="Tesla V100", capability=(7, 0), free_mb=80_000)
    taken = nvml.add_card(name="NVIDIA A10", compute_mode=2, free_mb=70_000)
    good = nvml.add_card(name="NVIDIA L4", capability=(8, 9), free_mb=20_000)
    causes, _ = examine(probe, [card.uuid for card in nvml.devices], CU13)
    assert causes.keys() == {old.uuid, taken.uuid}

    def chosen() -> str:
        return choose_gpu(probe.cards(), CardRequest(8_000, 1_000), unusable=causes).uuid

    assert chosen() == good.uuid
    good.free_mb = 100
    with pytest.raises(GpuBusy, match="NVIDIA L4") as full:
        chosen()
    assert "V100" not in full.value.message
    nvml.devices.remove(good)
    with pytest.raises(EngineUnavailable, match=r"Tesla V100 .* NVIDIA A10") as caught:
        chosen()
    assert "OCR_FALLBACK" in caught.value.remedy


def test_a_mig_device_that_is_gone_is_told_as_one(nvml: FakeNvml, probe: GpuProbe) -> None:
    nvml.add_card().add_mig("MIG-today")
    with pytest.raises(EngineUnavailable, match=r"OCR_GPU=MIG-yesterday names no GPU.*another UUID.*divided"):
        choose_gpu(probe.cards(), CardRequest(1, 1, "MIG-yesterday"))


def test_auto_takes_the_embedded_engine_and_says_which_cause_stands_against_the_card(
    nvml: FakeNvml, probe: GpuProbe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("deepseek_ocr_mcp.engines.find_spec", lambda _: object())
    monkeypatch.setattr("deepseek_ocr_mcp.engines.hub.resolve_model", lambda _: tmp_path)
    monkeypatch.setattr(build, "torch_build", lambda: CU13)
    nvml.add_card()
    assert build.engine_for(Settings(), probe)[0].name == "deepseek"
    nvml.cuda = 12_020
    engine, reason = build.engine_for(Settings(), probe)
    assert engine.name == "rapidocr"
    assert "because the NVIDIA driver 580.65.06 runs CUDA 12.2" in reason


# -- NVML that rests


def test_nvml_is_shut_down_when_nobody_asks_and_started_again_by_the_next_question(nvml: FakeNvml) -> None:
    nvml.add_card()
    probe = GpuProbe(nvml, rest_after=0.02)
    assert len(probe.cards()) == 1
    assert nvml.shutdowns.acquire(timeout=60)
    assert not nvml.initialised
    assert len(probe.cards()) == 1
    assert nvml.calls["nvmlInit"] == 2
    assert nvml.shutdowns.acquire(timeout=60)
    assert nvml.calls["nvmlShutdown"] == 2


def test_many_questions_set_one_timer(nvml: FakeNvml) -> None:
    card = nvml.add_card()
    probe = GpuProbe(nvml)
    for _ in range(5):
        probe.free_mb(card.uuid)
    timer = probe._resting
    assert timer is not None
    probe.cards()
    assert probe._resting is timer
    timer.cancel()
    probe.rest()
    assert nvml.calls["nvmlShutdown"] == 1
    probe.rest()
    assert nvml.calls["nvmlShutdown"] == 1
