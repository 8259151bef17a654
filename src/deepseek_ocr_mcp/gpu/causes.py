"""Says why a card cannot be used before anything is loaded: a table of causes, each with a message and a remedy.

Everything here is pure or reads small files. The facts of the driver and of each card come from NVML (`probe`); the
facts of torch come from its own `version.py`, which is read as text, because the parent never imports torch. What only
the CUDA runtime knows reaches us as the text of an error, and `cause_of_cuda_error` finds it in the same table.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

__all__ = [
    "CardFacts",
    "Cause",
    "DriverFacts",
    "TorchBuild",
    "card_not_compiled_for",
    "cause_of_cuda_error",
    "host_facts",
    "parse_torch_version",
    "remarks",
    "torch_build",
    "unusable",
]

OLDEST_DRIVER: Final = {13: "580", 12: "525", 11: "450"}
"""The first driver release for each major release of CUDA (CUDA's release notes, "minor version compatibility")."""

OLDEST_CARD: Final = {13: (7, 5), 12: (5, 0)}
"""The lowest compute capability that the toolkit of each major release of CUDA still compiles for."""

FIRST_BF16: Final = (8, 0)
"""Compute capability from which a card computes bfloat16 itself. Below, torch emulates it in float32."""

ON_CPU: Final = "Set OCR_FALLBACK=rapidocr, or OCR_ENGINE=rapidocr, to read on the CPU meanwhile."

Version = tuple[int, int]
ComputeMode = Literal["default", "exclusive", "prohibited"]
Fabric = Literal["none", "not started", "in progress", "failed", "ready"]


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a card cannot be used: a sentence, and what to do about it."""

    code: str
    """For tests and logs; stable."""
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class TorchBuild:
    """What the installed torch was built for."""

    version: str
    cuda: Version | None
    """The release of CUDA that it brings; None: a build for the CPU only, or for another maker's cards."""
    hip: bool = False
    """Whether it was built for AMD's cards."""


@dataclass(frozen=True, slots=True)
class DriverFacts:
    """What is true of the driver and of this machine; nothing in it depends on a card."""

    release: str = ""
    """The release of the driver, like `580.65.06`; empty where NVML does not tell."""
    cuda: Version | None = None
    """The newest CUDA that the driver runs. A compatibility package of NVIDIA's raises it."""
    has_uvm: bool = True
    """Whether the device file `nvidia-uvm` is there; CUDA cannot start without it."""
    spills: bool = False
    """Whether the driver moves memory to the host when a card is full, instead of refusing (Windows and WSL)."""


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What is true of one card or MIG device. A fact that NVML does not tell is never held against the card."""

    name: str = "NVIDIA GPU"
    capability: Version | None = None
    mode: ComputeMode = "default"
    strangers: tuple[int, ...] = ()
    """Ids of the processes on it that are not ours."""
    fabric: Fabric = "none"
    """The state of the NVLink switches between the cards; `none`: there are none."""


def torch_build() -> TorchBuild | None:
    """What the installed torch was built for, without importing it; None where it is not installed or not readable."""
    spec = find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        return None
    try:
        text = Path(spec.submodule_search_locations[0], "version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    return parse_torch_version(text)


def parse_torch_version(text: str) -> TorchBuild | None:
    """The build that torch's `version.py` describes; None where its form is another."""
    found = dict(re.findall(r"^(__version__|cuda|hip)\b[^=\n]*= *['\"]?([^'\"\n]*)", text, re.MULTILINE))
    if not found.get("__version__"):
        return None
    return TorchBuild(found["__version__"], _version(found.get("cuda", "")), found.get("hip", "None") != "None")


def _version(text: str) -> Version | None:
    numbers = re.match(r"(\d+)\.(\d+)", text)
    return None if numbers is None else (int(numbers[1]), int(numbers[2]))


def host_facts() -> tuple[bool, bool]:
    """`has_uvm` and `spills` of `DriverFacts`, as this machine is."""
    devices = Path("/dev")
    has_uvm = not (devices / "nvidiactl").exists() or (devices / "nvidia-uvm").exists()
    return has_uvm, sys.platform == "win32" or (hasattr(os, "uname") and "microsoft" in os.uname().release.lower())


# -- the table: what can be seen without CUDA


def unusable(build: TorchBuild | None, driver: DriverFacts, card: CardFacts) -> Cause | None:
    """The first reason why this torch cannot compute on this card; None: nothing speaks against it.

    Args:
        build: None for an engine that does not compute with torch.
    """
    for check in _TABLE:
        if (cause := check(build, driver, card)) is not None:
            return cause
    return None


def _torch_without_cuda(build: TorchBuild | None, driver: DriverFacts, card: CardFacts) -> Cause | None:
    if build is None or build.cuda is not None:
        return None
    made_for = "AMD's cards" if build.hip else "the CPU only"
    return Cause(
        "torch_without_cuda",
        f"torch {build.version} was built for {made_for} and cannot use an NVIDIA card.",
        "Uninstall torch and install its CUDA build; the selector on pytorch.org shows the command for this machine. "
        + ON_CPU,
    )


def _old_driver(build: TorchBuild | None, driver: DriverFacts, card: CardFacts) -> Cause | None:
    if build is None or build.cuda is None or driver.cuda is None or driver.cuda[0] >= build.cuda[0]:
        return None
    least = OLDEST_DRIVER.get(build.cuda[0])
    needs = f"driver {least} or later" if least else f"a driver that runs CUDA {build.cuda[0]}"
    return Cause(
        "driver_too_old",
        f"The NVIDIA driver {driver.release} runs CUDA {driver.cuda[0]}.{driver.cuda[1]}; torch {build.version} was "
        f"built for CUDA {build.cuda[0]}.{build.cuda[1]} and needs {needs}.",
        f"Update the driver, or install the torch that was built for CUDA {driver.cuda[0]}. {ON_CPU}",
    )


def _old_card(build: TorchBuild | None, driver: DriverFacts, card: CardFacts) -> Cause | None:
    if build is None or build.cuda is None or card.capability is None:
        return None
    least = OLDEST_CARD.get(build.cuda[0], max(OLDEST_CARD.values()))
    if card.capability >= least:
        return None
    return Cause(
        "card_too_old",
        f"{card.name} has compute capability {card.capability[0]}.{card.capability[1]}; torch {build.version} needs "
        f"{least[0]}.{least[1]} or higher.",
        f"Name another card in OCR_GPU. {ON_CPU}",
    )


def _uvm(build: TorchBuild | None, driver: DriverFacts, card: CardFacts) -> Cause | None:
    if driver.has_uvm:
        return None
    return Cause(
        "no_uvm_device",
        "The device file /dev/nvidia-uvm is missing, so CUDA cannot start though nvidia-smi works.",
        "Run nvidia-modprobe -u -c=0 as root; start a container with --gpus all, not with single --device flags.",
    )


def _mode(build: TorchBuild | None, driver: DriverFacts, card: CardFacts) -> Cause | None:
    if card.mode == "prohibited":
        return Cause(
            "compute_prohibited",
            f"{card.name} is in compute mode Prohibited: no program may compute on it.",
            "Run nvidia-smi --compute-mode=DEFAULT as root, or name another card in OCR_GPU.",
        )
    if card.mode == "exclusive" and card.strangers:
        pids = ", ".join(map(str, card.strangers))
        return Cause(
            "card_exclusive",
            f"{card.name} is in compute mode Exclusive Process, and process {pids} has it.",
            "End that process, run nvidia-smi --compute-mode=DEFAULT as root, or name another card in OCR_GPU.",
        )
    return None


def _fabric(build: TorchBuild | None, driver: DriverFacts, card: CardFacts) -> Cause | None:
    if card.fabric == "in progress":
        return Cause(
            "fabric_starting",
            f"The NVLink switches of {card.name} are still starting, and CUDA cannot start before them (error 802).",
            "Wait a minute and send the request again.",
        )
    if card.fabric in ("not started", "failed"):
        return Cause(
            "fabric_down",
            f"The NVLink switches of {card.name} are not running, and CUDA refuses to start without them (error 802).",
            "Start the service nvidia-fabricmanager, in the same release as the driver; its log says why it failed.",
        )
    return None


_Check = Callable[[TorchBuild | None, DriverFacts, CardFacts], Cause | None]
_TABLE: Final[tuple[_Check, ...]] = (_torch_without_cuda, _old_driver, _old_card, _uvm, _mode, _fabric)
"""The causes, in the order in which a person mends them: the installed packages, the machine, the card."""


def remarks(driver: DriverFacts, card: CardFacts) -> list[str]:
    """What makes this card slow though it can be used, as sentences."""
    found = []
    if card.capability is not None and card.capability < FIRST_BF16:
        found.append(
            f"{card.name} (compute capability {card.capability[0]}.{card.capability[1]}) does not compute bfloat16: "
            "torch emulates it, so the text is the same and comes several times slower. float16 is not used: numbers "
            "that bfloat16 holds overflow in it."
        )
    if driver.spills:
        found.append(
            "This driver moves a program's memory to the host when the card is full, instead of refusing: reading then "
            "takes ten times as long and no error says so. Set CUDA - Sysmem Fallback Policy to Prefer No Sysmem "
            "Fallback in the NVIDIA Control Panel, and keep OCR_GPU_RESERVE_MB as it is or higher."
        )
    return found


# -- the table: what only CUDA says, in its words

_CUDA_WORDS: Final[Mapping[str, Cause]] = {
    "driver version is insufficient": Cause(
        "driver_too_old",
        "The NVIDIA driver is older than this torch needs.",
        f"Update the driver, or install a torch that was built for an older CUDA. {ON_CPU}",
    ),
    "driver on your system is too old": Cause(
        "driver_too_old",
        "The NVIDIA driver is older than this torch needs.",
        f"Update the driver, or install a torch that was built for an older CUDA. {ON_CPU}",
    ),
    "no kernel image is available": Cause(
        "card_not_compiled_for",
        "This torch holds no code for this card: the card is older or newer than the torch.",
        f"Install the newest torch, or name another card in OCR_GPU. {ON_CPU}",
    ),
    "system not yet initialized": Cause(
        "fabric_down",
        "The NVLink switches between the cards are not running, and CUDA refuses to start without them (error 802).",
        "Start the service nvidia-fabricmanager, in the same release as the driver; its log says why it failed.",
    ),
    "busy or unavailable": Cause(
        "card_exclusive",
        "Another program has this card for itself (compute mode Exclusive Process), or the card is prohibited.",
        "End that program, run nvidia-smi --compute-mode=DEFAULT as root, or name another card in OCR_GPU.",
    ),
    "no CUDA-capable device is detected": Cause(
        "card_gone",
        "CUDA does not find the card that was chosen: a MIG device was removed, or a container no longer has the card.",
        "Compare CUDA_VISIBLE_DEVICES and OCR_GPU with nvidia-smi -L, and start the container again.",
    ),
    "No CUDA GPUs are available": Cause(
        "card_gone",
        "CUDA does not find the card that was chosen: a MIG device was removed, or a container no longer has the card.",
        "Compare CUDA_VISIBLE_DEVICES and OCR_GPU with nvidia-smi -L, and start the container again.",
    ),
    "CUDA unknown error": Cause(
        "no_uvm_device",
        "CUDA cannot start though the driver answers; mostly the device file /dev/nvidia-uvm is missing.",
        "Run nvidia-modprobe -u -c=0 as root; start a container with --gpus all. After a suspend, reload nvidia_uvm.",
    ),
    "not compiled with CUDA enabled": Cause(
        "torch_without_cuda",
        "The installed torch was built for the CPU only.",
        "Uninstall torch and install its CUDA build; the selector on pytorch.org shows the command. " + ON_CPU,
    ),
}
"""Parts of what the CUDA runtime and torch say when CUDA cannot start, and what they mean."""


def cause_of_cuda_error(text: str) -> Cause | None:
    """What an error of the start of CUDA means; None where it is none of the known ones."""
    return next((cause for words, cause in _CUDA_WORDS.items() if words.lower() in text.lower()), None)


def card_not_compiled_for(capability: Version, arch_list: list[str], version: str) -> Cause | None:
    """The cause, where torch holds neither machine code nor portable code (PTX) for this card.

    Code for sm_XY runs on cards of the same X and a Y as high or higher; PTX (`compute_XY`) on every later card.

    Args:
        capability: of the card.
        arch_list: what `torch.cuda.get_arch_list()` says; empty: nobody knows, and nothing is held against the card.
        version: of torch, for the message.
    """
    major, minor = capability
    for entry in arch_list:
        kind, _, digits = entry.partition("_")
        number = re.match(r"\d+", digits)
        if number is None:
            continue
        built = divmod(int(number[0]), 10)
        if kind == "compute" and built <= capability:
            return None
        if kind == "sm" and built[0] == major and built[1] <= minor:
            return None
    if not arch_list:
        return None
    words = _CUDA_WORDS["no kernel image is available"]
    return Cause(
        words.code,
        f"torch {version} holds no code for a card of compute capability {major}.{minor}; it was built for "
        f"{', '.join(arch_list)}.",
        words.remedy,
    )
