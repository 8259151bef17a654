"""Sees the cards by NVML. The probe raises nothing, and a hung driver cannot hang it.

Cards are named by UUID from end to end, because indices differ. NVML and nvidia-smi count in PCI order, whatever the
environment says. CUDA counts the fastest card first, unless `CUDA_DEVICE_ORDER` is `PCI_BUS_ID`. Here an index always
means PCI order, in `OCR_GPU` and in `CUDA_VISIBLE_DEVICES` alike; the worker gets a UUID.

A card in MIG mode is not listed, because CUDA cannot use it whole. Its MIG devices are listed in its place, each with
its own UUID and memory, and with the index of the card. So `OCR_GPU=0` means any MIG device of card 0.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
import anyio.to_thread

from ..models import Gpu
from .causes import CardFacts, ComputeMode, DriverFacts, Fabric, host_facts

__all__ = ["ENOUGH_FREED", "GpuProbe", "wait_freed"]


ANSWER_TIMEOUT_S: Final = 20.0  # eight sleeping cards without persistence mode need over ten to wake
REST_AFTER_S: Final = 30.0  # above the 15 s between two scrapes of /metrics; starting NVML again takes milliseconds
RETRY_INIT_S: Final = 10.0  # after a failed nvmlInit, until the next one
POLL_FIRST_S: Final = 0.02
POLL_MAX_S: Final = 0.25
ENOUGH_FREED: Final = 0.75  # the rest of a worker's memory may have gone to another program meanwhile
MIB: Final = 1024 * 1024

HOST_PID_NAMESPACE: Final = "pid:[4026531836]"  # a constant of the Linux kernel (PROC_PID_INIT_INO)

T = TypeVar("T")

logger = logging.getLogger(__name__)


class GpuProbe:
    """Asks NVML. Every answer comes within `ANSWER_TIMEOUT_S`; call it from a thread."""

    note: str
    """Why no card is listed, or which one is left out; for the user. As of the last `cards()`."""

    def __init__(
        self,
        nvml: Any = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sees_host_pids: bool | None = None,
        timeout: float = ANSWER_TIMEOUT_S,
        rest_after: float = REST_AFTER_S,
    ) -> None:
        """
        Args:
            nvml: what offers the functions of `pynvml`; default: that module, imported when first asked.
            sees_host_pids: whether our process ids are NVML's; default: as the kernel says.
            timeout: real seconds until a driver that does not answer counts as hung.
            rest_after: real seconds from the last question until NVML is shut down.
        """
        self.note = ""
        self._nvml = nvml
        self._clock = clock
        self._sees_host_pids = _in_host_pid_namespace() if sees_host_pids is None else sees_host_pids
        self._timeout = timeout
        self._rest_after = rest_after
        self._lock = threading.Lock()
        self._ready = False
        self._refusal = ""
        self._refused_at: float | None = None
        self._hung: threading.Thread | None = None
        self._asked_at = 0.0
        self._resting: threading.Timer | None = None

    def rest(self) -> None:
        """Shut NVML down until somebody asks again: it keeps the cards' device files open, and a card awake.

        Called by itself `REST_AFTER_S` after the last question.
        """
        with self._lock:
            if self._ready:
                self._ready = False
                with contextlib.suppress(Exception):
                    self._nvml.nvmlShutdown()

    def __repr__(self) -> str:
        return f"<GpuProbe {'ready' if self._ready else self._refusal or 'not asked yet'}>"

    def cards(self) -> list[Gpu]:
        """All cards that work, in PCI order; `note` says which cards are missing and why."""
        notes: list[str] = []
        found = self._bounded(lambda: self._cards(notes), None)
        self.note = _HUNG if found is None else " ".join(notes)
        return found or []

    def free_mb(self, uuid: str) -> int | None:
        """Free MiB of a card or a MIG device; None where NVML cannot tell."""
        return self._bounded(lambda: self._free_mb(uuid), None)

    def facts(self, uuids: Sequence[str], ours: Collection[int] = ()) -> tuple[DriverFacts, dict[str, CardFacts]]:
        """What is true of the driver, and of each of these cards by its UUID; for `causes.unusable`.

        Args:
            ours: ids of our own processes, which are no strangers on a card.
        """
        nothing: tuple[DriverFacts, dict[str, CardFacts]] = (DriverFacts(), {uuid: CardFacts() for uuid in uuids})
        return self._bounded(lambda: self._facts(uuids, ours), nothing)

    def process_mb(self, pid: int, uuid: str | None = None) -> int | None:
        """MiB that a process holds, on one card or on all.

        None where NVML cannot tell: it hides the number (Windows), or a container hides the process.
        """
        return self._bounded(lambda: self._process_mb(pid, uuid), None)

    # -- in the bounded thread

    def _cards(self, notes: list[str]) -> list[Gpu]:
        if not self._initialised():
            notes.append(self._refusal)
            return []
        count = self._ask("nvmlDeviceGetCount")
        found = [gpu for index in range(count or 0) for gpu in self._card(index, notes)]
        if count is None:
            notes.append("The NVIDIA driver does not say how many cards there are; see nvidia-smi.")
        elif count == 0:
            notes.append("The NVIDIA driver runs but sees no card; a container must be started with --gpus all.")
        return found

    def _card(self, index: int, notes: list[str]) -> Iterator[Gpu]:
        try:
            handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
            if not self._in_mig_mode(handle):
                yield self._describe(index, handle)
                return
            parts = list(self._mig_devices(handle))
            if not parts:
                notes.append(f"GPU {index} is in MIG mode without a MIG device; create one with nvidia-smi mig.")
            for part in parts:
                yield self._describe(index, part)
        except Exception as exc:
            notes.append(f"GPU {index} is left out. {self._reason(exc)}")

    def _describe(self, index: int, handle: Any) -> Gpu:
        """One device. Raises where its memory or UUID cannot be read: such a card cannot be chosen."""
        total, used, free = self._memory(handle)
        utilization = self._ask("nvmlDeviceGetUtilizationRates", handle)
        return Gpu(
            index=index,
            uuid=_text(self._nvml.nvmlDeviceGetUUID(handle)),
            name=_text(self._ask("nvmlDeviceGetName", handle) or "NVIDIA GPU"),
            memory_total_mb=total,
            memory_used_mb=used,
            memory_free_mb=free,
            utilization=None if utilization is None else int(utilization.gpu),
        )

    def _memory(self, handle: Any) -> tuple[int, int, int]:
        """Total, used and free MiB."""
        try:
            memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
        except Exception as exc:
            # A chip that shares the host's memory (GB10, Jetson) has none of its own to report.
            shared = _host_memory_mb() if self._is(exc, "NVML_ERROR_NOT_SUPPORTED") else None
            if shared is None:
                raise
            total, free = shared
            return total, total - free, free
        return memory.total // MIB, memory.used // MIB, memory.free // MIB

    def _free_mb(self, uuid: str) -> int | None:
        if not self._initialised():
            return None
        try:
            return self._memory(self._nvml.nvmlDeviceGetHandleByUUID(uuid))[2]
        except Exception as exc:
            self._note_loss(exc)
            return None

    def _process_mb(self, pid: int, uuid: str | None) -> int | None:
        if not self._initialised():
            return None
        if uuid is None:
            handles = [part for index in range(self._ask("nvmlDeviceGetCount") or 0) for part in self._parts(index)]
        else:
            handles = [self._ask("nvmlDeviceGetHandleByUUID", uuid)]
        held: list[int | None] = []
        answered = False
        for handle in handles:
            running = None if handle is None else self._ask("nvmlDeviceGetComputeRunningProcesses", handle)
            if running is not None:
                answered = True
                held += [process.usedGpuMemory for process in running if process.pid == pid]
        if not held:
            # Not on the list means nothing held, where the list is ours to read.
            return 0 if answered and self._sees_host_pids else None
        known = [part for part in held if part is not None]
        return sum(known) // MIB if len(known) == len(held) else None

    def _facts(self, uuids: Sequence[str], ours: Collection[int]) -> tuple[DriverFacts, dict[str, CardFacts]]:
        has_uvm, spills = host_facts()
        if not self._initialised():
            return DriverFacts(has_uvm=has_uvm, spills=spills), {uuid: CardFacts() for uuid in uuids}
        newest = self._ask("nvmlSystemGetCudaDriverVersion_v2")
        driver = DriverFacts(
            release=_text(self._ask("nvmlSystemGetDriverVersion") or ""),
            cuda=None if newest is None else (newest // 1000, newest % 1000 // 10),
            has_uvm=has_uvm,
            spills=spills,
        )
        return driver, {uuid: self._card_facts(uuid, ours) for uuid in uuids}

    def _card_facts(self, uuid: str, ours: Collection[int]) -> CardFacts:
        handle = self._ask("nvmlDeviceGetHandleByUUID", uuid)
        if handle is None:
            return CardFacts()
        # Of a MIG device, its card is asked.
        card = self._ask("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", handle) or handle
        capability = self._ask("nvmlDeviceGetCudaComputeCapability", card)
        mode = self._ask("nvmlDeviceGetComputeMode", card)
        running = self._ask("nvmlDeviceGetComputeRunningProcesses", handle) or []
        # Where the process ids are another namespace's, ours cannot be told from strangers.
        told_apart = self._sees_host_pids or not ours
        return CardFacts(
            name=_text(self._ask("nvmlDeviceGetName", handle) or "NVIDIA GPU"),
            capability=None if capability is None else (int(capability[0]), int(capability[1])),
            mode=_COMPUTE_MODES.get(mode, "default"),
            strangers=tuple(process.pid for process in running if process.pid not in ours) if told_apart else (),
            fabric=self._fabric(card),
        )

    def _fabric(self, card: Any) -> Fabric:
        """How the NVLink switches between the cards are."""
        try:
            info = self._nvml.c_nvmlGpuFabricInfoV_t()
            self._nvml.nvmlDeviceGetGpuFabricInfoV(card, ctypes.byref(info))
        except Exception as exc:  # a driver before 545, or no switches
            self._note_loss(exc)
            return "none"
        state = _FABRIC_STATES.get(info.state, "none")
        return "failed" if state == "ready" and info.status != 0 else state

    def _parts(self, index: int) -> list[Any]:
        """The handle of a card, or those of its MIG devices."""
        handle = self._ask("nvmlDeviceGetHandleByIndex", index)
        if handle is None:
            return []
        return list(self._mig_devices(handle)) if self._in_mig_mode(handle) else [handle]

    def _in_mig_mode(self, handle: Any) -> bool:
        modes = self._ask("nvmlDeviceGetMigMode", handle)
        return modes is not None and modes[0] == 1

    def _mig_devices(self, handle: Any) -> Iterator[Any]:
        for slot in range(self._ask("nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
            device = self._ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, slot)
            if device is not None:  # a slot may be empty
                yield device

    # -- how NVML is asked

    def _initialised(self) -> bool:
        """Whether NVML runs; starts it, and after a failure tries again no sooner than `RETRY_INIT_S`."""
        with self._lock:
            if self._ready:
                return True
            now = self._clock()
            if self._refused_at is not None and now - self._refused_at < RETRY_INIT_S:
                return False
            try:
                if self._nvml is None:
                    self._nvml = importlib.import_module("pynvml")
                self._nvml.nvmlInit()
            except Exception as exc:
                self._refusal, self._refused_at = self._reason(exc), now
                return False
            self._ready, self._refusal, self._refused_at = True, "", None
            return True

    def _ask(self, function: str, *args: Any) -> Any:
        """The answer of an NVML function; None where it fails."""
        try:
            return getattr(self._nvml, function)(*args)
        except Exception as exc:
            self._note_loss(exc)
            return None

    def _note_loss(self, exc: Exception) -> None:
        """A driver that was reloaded under us has to be initialised again."""
        if self._is(exc, "NVML_ERROR_UNINITIALIZED"):
            self._ready = False

    def _is(self, exc: Exception, *constants: str) -> bool:
        code = getattr(exc, "value", None)
        return code is not None and any(code == getattr(self._nvml, name, object()) for name in constants)

    def _reason(self, exc: Exception) -> str:
        """What is the matter, in a user's words."""
        self._note_loss(exc)
        if isinstance(exc, ImportError):
            return "The package nvidia-ml-py is not installed."
        for constant, sentence in _REASONS.items():
            if self._is(exc, constant):
                return sentence
        return f"NVML says: {exc}."

    def _bounded(self, ask: Callable[[], T], otherwise: T) -> T:
        """What `ask` answers, or `otherwise` when the driver hangs. No thread is added while one hangs."""
        if self._hung is not None and self._hung.is_alive():
            return otherwise
        answer: list[T] = []

        def run() -> None:
            try:
                answer.append(ask())
            except Exception:
                logger.exception("NVML answered with something unforeseen.")

        thread = threading.Thread(target=run, name="nvml", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is ending, or out of threads
            return otherwise
        thread.join(self._timeout)
        if thread.is_alive():
            self._hung = thread
        else:
            self._rest_later()
        return answer[0] if answer else otherwise

    def _rest_later(self) -> None:
        """One timer for all questions: when it fires too early, it is set again."""
        self._asked_at = time.monotonic()
        if self._ready and self._resting is None:
            self._set_timer(self._rest_after)

    def _set_timer(self, seconds: float) -> None:
        self._resting = threading.Timer(seconds, self._rest_now)
        self._resting.daemon = True
        with contextlib.suppress(RuntimeError):  # the interpreter is ending, or out of threads
            self._resting.start()

    def _rest_now(self) -> None:
        left = self._rest_after - (time.monotonic() - self._asked_at)
        if left > 0:
            self._set_timer(left)
            return
        self._resting = None
        self.rest()


_HUNG = "The NVIDIA driver does not answer; a card may have failed (see dmesg for Xid), a restart helps."
_COMPUTE_MODES: Final[dict[object, ComputeMode]] = {1: "exclusive", 2: "prohibited", 3: "exclusive"}
_FABRIC_STATES: Final[dict[object, Fabric]] = {1: "not started", 2: "in progress", 3: "ready"}
"""NVML's numbers: NVML_COMPUTEMODE_… and NVML_GPU_FABRIC_STATE_… of nvml.h."""
_REASONS = {
    "NVML_ERROR_LIBRARY_NOT_FOUND": "There is no NVIDIA driver on this machine (libnvidia-ml was not found); "
    "a container must be started with --gpus all.",
    "NVML_ERROR_DRIVER_NOT_LOADED": "The NVIDIA kernel driver is not loaded; "
    "load it, or restart the machine if it was just installed.",
    "NVML_ERROR_NO_PERMISSION": "This user may not use the NVIDIA driver; "
    "check the rights of /dev/nvidiactl and /dev/nvidia*.",
    "NVML_ERROR_LIB_RM_VERSION_MISMATCH": "The NVIDIA driver was updated while it ran; "
    "restart the machine, or the container.",
    "NVML_ERROR_GPU_IS_LOST": "It has fallen off the bus; a restart of the machine brings it back.",
    "NVML_ERROR_RESET_REQUIRED": "It has to be reset, with nvidia-smi --gpu-reset or a restart.",
    "NVML_ERROR_INSUFFICIENT_POWER": "Its power cable is not connected.",
    "NVML_ERROR_NOT_SUPPORTED": "It does not report its memory.",
}


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _in_host_pid_namespace() -> bool:
    """Whether NVML's process ids, which are the host's, are also ours."""
    link = Path("/proc/self/ns/pid")
    try:
        return str(link.readlink()) == HOST_PID_NAMESPACE
    except OSError:
        return not Path("/proc").is_dir()  # no namespaces on Windows


def _host_memory_mb() -> tuple[int, int] | None:
    """Total and available MiB of the host."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        return kib["MemTotal"] // 1024, kib["MemAvailable"] // 1024
    except (OSError, ValueError, KeyError, IndexError):
        return None


async def wait_freed(probe: GpuProbe, uuid: str, *, free_before_mb: int, expect_mb: int, timeout: float = 5.0) -> int:
    """Wait until a dead worker's memory is back on its card; the MiB that came back, never below 0.

    Returns at once when three quarters of `expect_mb` are there, else after `timeout` seconds.

    Args:
        free_before_mb: free memory while the worker still held its own.
        expect_mb: what it held.
    """
    deadline = anyio.current_time() + timeout
    pause = POLL_FIRST_S
    freed = 0
    while True:
        # No cancel scope around the thread: the probe has its own bound, in real time.
        free = await anyio.to_thread.run_sync(partial(probe.free_mb, uuid))
        if free is not None:
            freed = max(0, free - free_before_mb)
        left = deadline - anyio.current_time()
        if freed >= expect_mb * ENOUGH_FREED or left <= 0:
            return freed
        await anyio.sleep(min(pause, left))
        pause = min(pause * 2, POLL_MAX_S)
