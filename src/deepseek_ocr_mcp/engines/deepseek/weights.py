"""Keeps one immutable host copy of the weights, whose copy on a device comes and goes; no bit ever changes.

The host copy is the fused file (`fused`), mapped: no conversion, no second copy, and two processes that map it hold it
once. `place()` copies the weights to a device as one arena, `park()` drops it: weights never change, so nothing is
ever copied back. A `place()` that fails leaves the model parked and sound.

To a card the weights go through a few pinned buffers. With `locked=True` they are copied once more into host memory
that is locked for the card, from which it reads by itself: the fastest way back, for as much host memory again.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import nn

from ...errors import EngineUnavailable, GpuBusy
from . import host_memory
from .fused import ALIGNMENT, DTYPES, FusedFile, Source, fused_file
from .shortage import first_line, is_out_of_memory

__all__ = ["Host", "ParkedModel"]

Host = Literal["file", "pageable", "pinned"]
"""The kinds of host copy: the mapped fused file, or memory of our own, locked for the GPU or not."""

CHUNK: Final = 256 << 20  # bytes of one copy; a multiple of every page size
STAGING_BYTES: Final = 32 << 20  # of each pinned buffer that weights pass through on their way to a card
STAGING_BUFFERS: Final = 4
"""Buffers, each filled by a thread of its own: one thread copies some 8 GB/s out of the page cache, a card takes 25 to
55. Not measured on a card: with too few the copy waits for memory, with too many it takes cores from others."""
HOST_SPARE: Final = 2 << 30  # bytes of host memory that stay free when a locked copy is made


class ParkedModel:
    """A model in host memory (`parked`) whose weights may also be on a device. Not for several threads."""

    def __init__(self, model: nn.Module, arena: _Arena, notes: Sequence[str] = (), *, locked: bool = False) -> None:
        """Use `open()`. `arena` holds the weights of `model`; other tensors of it are taken as they are."""
        self.model = model
        """The model in eval mode. It is the same object for life."""
        self.notes = tuple(notes)
        """Sentences about steps that failed though the model works."""
        self._arena = arena
        self._tensors = _tensors(model, arena)
        self._host = torch.device("cpu")
        self._placed: torch.Tensor | None = None
        self._locks_host = locked

    @classmethod
    def open(cls, checkpoint: Source, dtype: torch.dtype, *, locked: bool = False) -> ParkedModel:
        """The model of a checkpoint in host memory, parked. Asks no card anything.

        Args:
            locked: whether a copy of the weights is kept in host memory that is locked for the card.

        Raises:
            EngineUnavailable: the checkpoint cannot be loaded.
        """
        notes: list[str] = []
        model = None
        for _ in range(2):  # a file that does not fit is made anew, once
            fused, model = fused_file(checkpoint, dtype, notes)
            if fused is None:
                break
            try:
                return cls(*_assemble(checkpoint, fused), notes, locked=locked)
            except (RuntimeError, OSError, ValueError, KeyError, TypeError) as exc:
                notes.append(f"{fused.path} did not fit the model and was thrown away: {first_line(exc)}.")
                with contextlib.suppress(OSError):
                    fused.path.unlink()
        if model is None:
            model = checkpoint.load_model(dtype)
        return cls(model, _packed(model), notes, locked=locked)

    def __repr__(self) -> str:
        where = "parked" if self._placed is None else str(self.device)
        return f"<ParkedModel {where} {self.nbytes / 1e6:.0f} MB host {self.host}>"

    @property
    def device(self) -> torch.device:
        """Where the weights are that the model computes with: the CPU while it is parked."""
        return self._host if self._placed is None else self._placed.device

    @property
    def parked(self) -> bool:
        """Whether no device holds a copy."""
        return self._placed is None

    @property
    def host(self) -> Host:
        """The kind of the host copy."""
        return self._arena.kind

    @property
    def nbytes(self) -> int:
        """Bytes of the weights, on the host and, while the model is placed, on the device."""
        return self._arena.nbytes

    def place(self, device: str) -> None:
        """Copy the weights to `device` and let the model compute there. On `cpu` it is a second copy.

        On return the copy is complete. Nothing happens where the weights are there already.

        Raises:
            GpuBusy: the device has no room; the model is parked.
        """
        target = torch.device(device)
        if self._placed is not None:
            there = self._placed.device
            if there.type == target.type and target.index in (None, there.index):
                return
            self.park()
        full = ""
        try:
            arena, moved = self._copied_to(target)
        except BaseException as exc:
            if not is_out_of_memory(exc):
                traceback.clear_frames(exc.__traceback__)  # its frames hold the part that was copied
                _give_back(target)
                raise
            full = first_line(exc)
        if full:  # outside of `except`: the error's frames are gone, and the tensors in them
            _give_back(target)
            raise GpuBusy(
                f"{device} has no room for the weights ({self.nbytes / 1e9:.1f} GB): {full}.",
                remedy="Wait until other programs leave the card, or choose another with OCR_GPU.",
            )
        for tensor, copy in zip(self._tensors, moved, strict=True):
            tensor.show(copy)
        self._placed = arena

    def park(self) -> None:
        """Drop the copy on the device; the model computes on the host again. Nothing is copied."""
        if self._placed is None:
            return
        device = self._placed.device
        for tensor in self._tensors:
            tensor.show(tensor.host)
        self._placed = None
        _give_back(device)

    def _copied_to(self, target: torch.device) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The arena on `target`, and a tensor on it for each of `_tensors`. Changes nothing on a failure."""
        arena = torch.empty(self._arena.nbytes, dtype=torch.uint8, device=target)
        locked = None
        if self._locks_host and _reads_host(target) and self._arena.kind != "pinned":
            locked = _LockedCopy.of(self._arena)
        try:
            if locked is None and _reads_host(target) and self._arena.kind != "pinned":
                _Staging(self._arena, arena).run()
            else:
                self._copy_chunks(arena, locked)
            moved = [
                tensor.host.detach().to(target, copy=True)
                if tensor.offset is None
                else _view(arena, tensor.offset, tensor.host)
                for tensor in self._tensors
            ]
            _wait(target)
        except BaseException:
            if locked is not None:
                with contextlib.suppress(RuntimeError):
                    _wait(target)  # nothing may read memory that is being unlocked
                _unlock(locked.ranges, locked.arena)
            raise
        if locked is not None:
            self._adopt(locked)
        return arena, moved

    def _copy_chunks(self, arena: torch.Tensor, locked: _LockedCopy | None) -> None:
        """Copy the host copy to `arena` in large pieces, on the way into locked memory where there is some."""
        source = self._arena.bytes if locked is None else locked.arena.bytes
        self._arena.read_ahead(0)
        for start, end in _chunks(self._arena.nbytes, CHUNK):
            self._arena.read_ahead(end)
            if locked is not None:
                locked.fill(start, end)  # the copy of the chunk before goes on meanwhile
            _copy(arena[start:end], source[start:end])

    def _adopt(self, locked: _LockedCopy) -> None:
        """Make the locked copy the host copy; the mapped file is let go."""
        self._arena = locked.arena
        for tensor in self._tensors:
            if tensor.offset is not None:
                tensor.host = _like(tensor.host, _view(self._arena.bytes, tensor.offset, tensor.host))
        weakref.finalize(self, _unlock, locked.ranges, self._arena).atexit = False  # the driver does it at exit


# -- tensors and their slots


class _Tensor:
    """A tensor of the model, its place in the arena, and every slot that shows it."""

    __slots__ = ("host", "offset", "slots")

    def __init__(self, host: torch.Tensor, offset: int | None) -> None:
        self.host = host
        self.offset = offset
        """Bytes from the start of the arena; None where it is not in it (buffers that are in no file)."""
        self.slots: list[tuple[dict[str, Any], str]] = []

    def show(self, tensor: torch.Tensor) -> None:
        shown = _like(self.host, tensor)
        for store, name in self.slots:
            store[name] = shown


def _slots(model: nn.Module) -> Iterator[tuple[dict[str, Any], str, torch.Tensor]]:
    for module in model.modules():
        stores: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        for store in stores:
            for name, tensor in store.items():
                if tensor is not None:
                    yield store, name, tensor


def _tensors(model: nn.Module, arena: _Arena) -> list[_Tensor]:
    """Each tensor of the model once, with all of its slots."""
    found: dict[int, _Tensor] = {}
    first, last = arena.bytes.data_ptr(), arena.bytes.data_ptr() + arena.nbytes
    for store, name, tensor in _slots(model):
        if tensor.is_meta:
            raise EngineUnavailable(
                f"The weight {name} of {type(model).__name__} has no value.",
                remedy="Fetch the model again with: deepseek-ocr-mcp download",
            )
        known = found.get(id(tensor))
        if known is None:
            inside = first <= tensor.data_ptr() < last and tensor.is_contiguous()
            known = found[id(tensor)] = _Tensor(tensor, tensor.data_ptr() - first if inside else None)
        known.slots.append((store, name))
    return list(found.values())


def _like(model: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` as a frozen parameter where `model` is one, else as a plain buffer."""
    if isinstance(model, nn.Parameter) and not isinstance(tensor, nn.Parameter):
        return nn.Parameter(tensor, requires_grad=False)
    return tensor


def _view(arena: torch.Tensor, offset: int, like: torch.Tensor) -> torch.Tensor:
    """The tensor of `like`'s dtype and shape that begins `offset` bytes into the arena."""
    return arena[offset : offset + like.nbytes].view(like.dtype).view(like.shape)


def _copy(target: torch.Tensor, source: torch.Tensor) -> None:
    """One large copy, asynchronous where the device can."""
    target.copy_(source, non_blocking=True)


def _wait(device: torch.device) -> None:
    """Until the copies are complete."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


def _give_back(device: torch.device) -> None:
    """Let the allocator return its free memory to the driver, so that other programs see it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


# -- host memory


@dataclass(slots=True)
class _Arena:
    """All weights as one run of bytes in host memory."""

    bytes: torch.Tensor
    """1-D, uint8."""
    kind: Host
    mapping: mmap.mmap
    """The mapping that `bytes` lies in."""
    start: int = 0
    """The place of `bytes` in the mapping; a multiple of `PAGE`."""
    refused_lock: bool = False
    """Whether the driver refused to lock it, so that it is not asked at every `place()`."""

    @property
    def nbytes(self) -> int:
        return int(self.bytes.numel())

    def read_ahead(self, position: int) -> None:
        """Have the disk deliver the chunk after `position` while the one before is copied."""
        if self.kind == "file" and hasattr(mmap, "MADV_WILLNEED") and position < self.nbytes:
            with contextlib.suppress(OSError):
                begin = (self.start + position) // mmap.PAGESIZE * mmap.PAGESIZE
                end = min(begin + CHUNK, self.start + self.nbytes)
                self.mapping.madvise(mmap.MADV_WILLNEED, begin, end - begin)


def _anonymous(nbytes: int) -> _Arena:
    """Memory of our own to fill: no allocator rounds it up, and no page of it is taken before it is written."""
    size = max(nbytes, 1)
    if hasattr(mmap, "MAP_PRIVATE"):
        mapping = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    else:
        mapping = mmap.mmap(-1, size)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            mapping.madvise(mmap.MADV_HUGEPAGE)
    return _Arena(torch.frombuffer(mapping, dtype=torch.uint8)[:nbytes], "pageable", mapping)


def _packed(model: nn.Module) -> _Arena:
    """Move every tensor of a loaded model into one arena; each original is freed as soon as it is copied."""
    groups: dict[int, tuple[torch.Tensor, list[tuple[dict[str, Any], str]]]] = {}
    for store, name, tensor in _slots(model):
        groups.setdefault(id(tensor), (tensor, []))[1].append((store, name))
    todo = list(groups.values())
    groups.clear()
    del tensor
    arena = _anonymous(sum(_rounded(tensor.nbytes) for tensor, _ in todo))
    position = 0
    while todo:
        tensor, slots = todo.pop()
        place = _view(arena.bytes, position, tensor)
        place.copy_(tensor.detach())
        position += _rounded(tensor.nbytes)
        shown = _like(tensor, place)
        for store, name in slots:
            store[name] = shown
    return arena


def _rounded(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _chunks(nbytes: int, size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, nbytes, size):
        yield start, min(start + size, nbytes)


class _Staging:
    """Copies a host arena to a card through a few pinned buffers, each filled by a thread of its own."""

    def __init__(self, source: _Arena, target: torch.Tensor) -> None:
        self._source = source
        self._target = target
        self._todo = _chunks(source.nbytes, STAGING_BYTES)
        self._lock = threading.Lock()
        self._failed = False

    def run(self) -> None:
        """Return when every copy is on its way; the caller waits for the last. Raises what any thread met."""
        self._source.read_ahead(0)
        with ThreadPoolExecutor(STAGING_BUFFERS, "staging") as pool:
            for done in [pool.submit(self._fill_and_send) for _ in range(STAGING_BUFFERS)]:
                done.result()

    def _fill_and_send(self) -> None:
        buffer, sent = None, None
        try:
            while (piece := self._next()) is not None:
                start, end = piece
                if start % CHUNK == 0:
                    self._source.read_ahead(start + CHUNK)
                if buffer is None:
                    buffer = _pinned(STAGING_BYTES)
                if sent is not None:
                    sent()
                filled = buffer[: end - start].copy_(self._source.bytes[start:end])
                _copy(self._target[start:end], filled)
                sent = _when_sent(self._target.device)
            if sent is not None:
                sent()  # nothing may write into the buffer before, and the allocator might
        except BaseException:
            self._failed = True
            raise

    def _next(self) -> tuple[int, int] | None:
        with self._lock:
            return None if self._failed else next(self._todo, None)


def _pinned(nbytes: int) -> torch.Tensor:
    """Host memory that the card reads by itself. torch keeps it for the next restore."""
    return torch.empty(nbytes, dtype=torch.uint8, pin_memory=True)


def _when_sent(device: torch.device) -> Callable[[], None]:
    """A function that waits until the copies that this thread has begun are complete."""
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))
    wait: Callable[[], None] = event.synchronize
    return wait


@dataclass(slots=True)
class _LockedCopy:
    """A host arena in the making whose pages are locked chunk by chunk, so that the GPU reads them itself.

    Its chunks are registered with the driver: PyTorch's pinned allocator would round 6.7 GB up to 8.6.
    """

    arena: _Arena
    ranges: list[int]
    """Addresses that were locked."""
    source: _Arena
    refused: bool = False
    """Whether the driver refused to lock more; the rest stays pageable."""

    @classmethod
    def of(cls, source: _Arena) -> _LockedCopy | None:
        """Room for a locked copy of `source`; for memory of our own, that memory itself. None without room."""
        if source.kind == "pageable":
            return None if source.refused_lock else cls(source, [], source)
        free = host_memory.free_bytes()
        if free is not None and free < source.nbytes + HOST_SPARE:
            return None  # the mapped file stays the host copy: slower, and it costs nothing
        return cls(_anonymous(source.nbytes), [], source)

    def fill(self, start: int, end: int) -> None:
        """Bring the chunk here, and lock it."""
        chunk = self.arena.bytes[start:end]
        if self.source is not self.arena:
            chunk.copy_(self.source.bytes[start:end])
        if not self.refused:
            self.refused = not _lock(chunk)
            if not self.refused:
                self.ranges.append(chunk.data_ptr())
        if end == self.arena.nbytes:
            self.arena.kind = "pageable" if self.refused else "pinned"
            self.arena.refused_lock = self.refused


def _reads_host(device: torch.device) -> bool:
    """Whether the device fetches host memory by itself, so that locking it pays."""
    return bool(device.type == "cuda")


def _lock(memory: torch.Tensor) -> bool:
    """Lock the pages of host memory for the GPU. RLIMIT_MEMLOCK does not bind the driver: it is asked."""
    cuda: Any = torch.cuda
    refused = int(cuda.cudart().cudaHostRegister(memory.data_ptr(), memory.nbytes, 0)) != 0
    if refused:
        with contextlib.suppress(RuntimeError):  # the runtime reports a refusal once more, to the next who asks
            torch.zeros(1, device="cuda")
    return not refused


def _unlock(ranges: list[int], arena: _Arena) -> None:
    """Before `arena`'s memory goes back."""
    cuda: Any = torch.cuda
    for address in ranges:
        cuda.cudart().cudaHostUnregister(address)


def _assemble(checkpoint: Source, fused: FusedFile) -> tuple[nn.Module, _Arena]:
    """The model with its weights in the mapped file.

    Raises:
        RuntimeError: its names or shapes are not the model's.
        OSError, ValueError: the file went away.
    """
    header = fused.header
    with fused.path.open("rb") as file:
        if os.fstat(file.fileno()).st_size != header.begin + header.nbytes:
            raise ValueError("it changed while it was opened")
        # Private: a write by mistake stays in this process. One inode: a rename changes nothing here.
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    arena = _Arena(torch.frombuffer(mapping, dtype=torch.uint8)[header.begin :], "file", mapping, header.begin)
    state = {}
    for name, entry in header.tensors.items():
        begin, end = entry["data_offsets"]
        dtype: torch.dtype = getattr(torch, DTYPES[entry["dtype"]])
        state[name] = arena.bytes[begin:end].view(dtype).view(entry["shape"])
    model = checkpoint.empty_model()
    state |= {name: state[other] for name, other in fused.tied.items()}
    model.load_state_dict(state, strict=True, assign=True)
    for name, other in fused.tied.items():  # one tensor again, not two that show the same memory
        module, _, slot = name.rpartition(".")
        model.get_submodule(module)._parameters[slot] = model.get_parameter(other)
    checkpoint.rebuild_buffers(model)
    return model.eval().requires_grad_(False), arena
