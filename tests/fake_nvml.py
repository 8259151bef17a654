"""A stand-in for `pynvml`: what the probe uses of it, over cards that are plain objects.

nvml = FakeNvml()
card = nvml.add_card(free_mb=40_000)
probe = GpuProbe(nvml, sees_host_pids=True)
card.take(pid=4711, mb=9_000)   # a worker loads
card.give_back(4711)            # it dies
nvml.failing["nvmlInit"] = nvml.NVML_ERROR_DRIVER_NOT_LOADED
"""

from __future__ import annotations

import ctypes
import threading
from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

MIB = 1024 * 1024


class NVMLError(Exception):
    """As in pynvml: `value` is the code."""

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value

    def __str__(self) -> str:
        return f"NVML error {self.value}"


@dataclass(eq=False)
class FakeCard:
    """A card or a MIG device. Change its fields at any time."""

    uuid: str
    name: str = "NVIDIA Fake"
    total_mb: int = 81_559
    free_mb: int = 81_000
    utilization: int | None = 0
    """None: NotSupported."""
    lost: bool = False
    shares_host_memory: bool = False
    mig_mode: bool = False
    mig: dict[int, FakeCard] = field(default_factory=dict)
    """Slot to MIG device; slots may be left empty."""
    capability: tuple[int, int] = (8, 6)
    compute_mode: int = 0
    """3: Exclusive Process, 2: Prohibited."""
    fabric_state: int = 0
    """1: not started, 2: in progress, 3: completed."""
    fabric_status: int = 0
    processes: dict[int, int | None] = field(default_factory=dict)
    """Process id to MiB held; None: NVML knows the process but not its memory."""

    def take(self, pid: int, mb: int) -> None:
        """A process allocates."""
        self.processes[pid] = (self.processes.get(pid) or 0) + mb
        self.free_mb -= mb

    def give_back(self, pid: int) -> None:
        """A process dies."""
        self.free_mb += self.processes.pop(pid) or 0

    def add_mig(self, uuid: str, *, slot: int | None = None, total_mb: int = 10_000, free_mb: int = 9_900) -> FakeCard:
        self.mig_mode = True
        device = FakeCard(uuid, name=f"{self.name} MIG 1g.10gb", total_mb=total_mb, free_mb=free_mb, utilization=None)
        self.mig[len(self.mig) if slot is None else slot] = device
        return device


class FakeNvml:
    """Give an instance to `GpuProbe`."""

    NVMLError = NVMLError
    NVML_SUCCESS = 0
    NVML_ERROR_UNINITIALIZED = 1
    NVML_ERROR_INVALID_ARGUMENT = 2
    NVML_ERROR_NOT_SUPPORTED = 3
    NVML_ERROR_NO_PERMISSION = 4
    NVML_ERROR_NOT_FOUND = 6
    NVML_ERROR_INSUFFICIENT_POWER = 8
    NVML_ERROR_DRIVER_NOT_LOADED = 9
    NVML_ERROR_LIBRARY_NOT_FOUND = 12
    NVML_ERROR_FUNCTION_NOT_FOUND = 13
    NVML_ERROR_GPU_IS_LOST = 15
    NVML_ERROR_RESET_REQUIRED = 16
    NVML_ERROR_LIB_RM_VERSION_MISMATCH = 18
    NVML_ERROR_UNKNOWN = 999

    def __init__(self) -> None:
        self.devices: list[FakeCard] = []
        self.failing: dict[str, int | Exception] = {}
        """Function name to the error code, or the exception, that it raises from now on."""
        self.hanging: dict[str, threading.Event] = {}
        """Function name to the event that ends its hang."""
        self.calls: Counter[str] = Counter()
        self.shutdowns = threading.Semaphore(0)
        """Counts the calls of `nvmlShutdown`, for a test that waits for them."""
        self.initialised = False
        self.driver = "580.65.06"
        self.cuda = 13000

    def add_card(self, uuid: str = "", **facts: Any) -> FakeCard:
        """A card at the next index; `facts` are fields of `FakeCard`."""
        index = len(self.devices)
        card = FakeCard(uuid or f"GPU-{index:08x}-0000-4000-8000-00000000000{index}", **facts)
        self.devices.append(card)
        return card

    def _enter(self, function: str, device: FakeCard | None = None) -> None:
        self.calls[function] += 1
        if function in self.hanging:
            self.hanging[function].wait(30)
        if (failure := self.failing.get(function)) is not None:
            raise failure if isinstance(failure, Exception) else NVMLError(failure)
        if not self.initialised and function != "nvmlInit":
            raise NVMLError(self.NVML_ERROR_UNINITIALIZED)
        if device is not None and device.lost:
            raise NVMLError(self.NVML_ERROR_GPU_IS_LOST)

    def nvmlInit(self) -> None:
        self._enter("nvmlInit")
        self.initialised = True

    def nvmlShutdown(self) -> None:
        self._enter("nvmlShutdown")
        self.initialised = False
        self.shutdowns.release()

    def nvmlSystemGetDriverVersion(self) -> str:
        self._enter("nvmlSystemGetDriverVersion")
        return self.driver

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        self._enter("nvmlSystemGetCudaDriverVersion_v2")
        return self.cuda

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, device: FakeCard) -> FakeCard:
        self._enter("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", device)
        for card in self.devices:
            if any(part is device for part in card.mig.values()):
                return card
        raise NVMLError(self.NVML_ERROR_INVALID_ARGUMENT)

    def nvmlDeviceGetCudaComputeCapability(self, device: FakeCard) -> tuple[int, int]:
        self._enter("nvmlDeviceGetCudaComputeCapability", device)
        return device.capability

    def nvmlDeviceGetComputeMode(self, device: FakeCard) -> int:
        self._enter("nvmlDeviceGetComputeMode", device)
        return device.compute_mode

    class c_nvmlGpuFabricInfoV_t(ctypes.Structure):
        _fields_ = (("state", ctypes.c_ubyte), ("status", ctypes.c_uint))

    def nvmlDeviceGetGpuFabricInfoV(self, device: FakeCard, info: Any) -> None:
        self._enter("nvmlDeviceGetGpuFabricInfoV", device)
        info._obj.state, info._obj.status = device.fabric_state, device.fabric_status

    def nvmlDeviceGetCount(self) -> int:
        self._enter("nvmlDeviceGetCount")
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeCard:
        self._enter("nvmlDeviceGetHandleByIndex", self.devices[index])
        return self.devices[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> FakeCard:
        self._enter("nvmlDeviceGetHandleByUUID")
        for card in self.devices:
            for device in (card, *card.mig.values()):
                if device.uuid == uuid:
                    self._enter("nvmlDeviceGetHandleByUUID", card)
                    return device
        raise NVMLError(self.NVML_ERROR_NOT_FOUND)

    def nvmlDeviceGetUUID(self, device: FakeCard) -> str:
        self._enter("nvmlDeviceGetUUID", device)
        return device.uuid

    def nvmlDeviceGetName(self, device: FakeCard) -> str:
        self._enter("nvmlDeviceGetName", device)
        return device.name

    def nvmlDeviceGetMemoryInfo(self, device: FakeCard) -> SimpleNamespace:
        self._enter("nvmlDeviceGetMemoryInfo", device)
        if device.shares_host_memory:
            raise NVMLError(self.NVML_ERROR_NOT_SUPPORTED)
        return SimpleNamespace(
            total=device.total_mb * MIB,
            free=device.free_mb * MIB,
            used=(device.total_mb - device.free_mb) * MIB,
        )

    def nvmlDeviceGetUtilizationRates(self, device: FakeCard) -> SimpleNamespace:
        self._enter("nvmlDeviceGetUtilizationRates", device)
        if device.utilization is None:
            raise NVMLError(self.NVML_ERROR_NOT_SUPPORTED)
        return SimpleNamespace(gpu=device.utilization, memory=0)

    def nvmlDeviceGetComputeRunningProcesses(self, device: FakeCard) -> list[SimpleNamespace]:
        self._enter("nvmlDeviceGetComputeRunningProcesses", device)
        return [
            SimpleNamespace(pid=pid, usedGpuMemory=None if mb is None else mb * MIB)
            for pid, mb in device.processes.items()
        ]

    def nvmlDeviceGetMigMode(self, device: FakeCard) -> list[int]:
        self._enter("nvmlDeviceGetMigMode", device)
        return [int(device.mig_mode), int(device.mig_mode)]

    def nvmlDeviceGetMaxMigDeviceCount(self, device: FakeCard) -> int:
        self._enter("nvmlDeviceGetMaxMigDeviceCount", device)
        return 7 if device.mig_mode else 0

    def nvmlDeviceGetMigDeviceHandleByIndex(self, device: FakeCard, slot: int) -> FakeCard:
        self._enter("nvmlDeviceGetMigDeviceHandleByIndex", device)
        if slot not in device.mig:
            raise NVMLError(self.NVML_ERROR_NOT_FOUND)
        return device.mig[slot]
