"""Keeps one immutable host copy of the weights, whose copy on a device comes and goes; no bit ever changes.

At first load the checkpoint is converted once and kept as a *fused* file: one safetensors file in the
model's own layout, beside the checkpoint. Later loads map it: no conversion, no second copy. It is written
under a lock, to a temporary file that takes its name when it is whole and on the disk, and used only when it
is as long as its header says and was made from the source as it is now. The source is known by the names,
lengths, times and headers of its weight files and 16 blocks of each, or by the SHA-256 in their names where
they are blobs of the hub's cache; by config.json, the dtype and the release of transformers.

`place()` copies the weights to a device as one arena, in large pieces, `park()` drops it: weights never
change, so nothing is ever copied back. A `place()` that fails leaves the model parked and sound.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import mmap
import os
import re
import shutil
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from ...errors import EngineUnavailable, GpuBusy
from ..hub import cache_folders

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Host", "ParkedModel", "WeightsSource"]

Host = Literal["file", "pageable", "pinned"]
"""What the host copy is: the mapped fused file, or memory of our own, locked for the GPU or not."""

FORMAT: Final = 1  # of the fused file; a new number makes every older file stale
FOLDER: Final = ".deepseek-ocr-mcp"  # beside the checkpoint; a dot, so that no reader of `*.safetensors` finds it
CHUNK: Final = 256 << 20  # bytes of one copy; a multiple of every page size
PAGE: Final = 4096  # bytes; where the tensors of a fused file begin
ALIGNMENT: Final = 256  # bytes; what CUDA gives its own allocations
HEADER_LIMIT: Final = 100_000_000  # bytes; what the safetensors format allows
SAMPLES: Final = 16  # blocks of a weight file that are hashed
SAMPLE: Final = 64 << 10  # bytes
DISK_SPARE: Final = 1 << 30  # bytes that stay free on the disk
HOST_SPARE: Final = 2 << 30  # bytes of host memory that stay free when the arena is made
LOCK_WAIT_S: Final = 600.0  # while another process converts the same checkpoint
BLOB: Final = re.compile(r"[0-9a-f]{64}")  # a large file in the hub's cache is named by its SHA-256

DTYPES: Final = {
    "BF16": "bfloat16",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
"""Names of safetensors and of torch."""


class WeightsSource(Protocol):
    """What is asked of a `checkpoint.Checkpoint`."""

    @property
    def path(self) -> str | Path: ...
    @property
    def weight_files(self) -> Sequence[str | Path]: ...
    def empty_model(self) -> nn.Module: ...
    def load_model(self, dtype: torch.dtype) -> nn.Module: ...
    def rebuild_buffers(self, model: nn.Module) -> None: ...


class ParkedModel:
    """A model in host memory (`parked`) whose weights may also be on a device. Not for several threads."""

    def __init__(self, model: nn.Module, arena: _Arena, notes: Sequence[str] = ()) -> None:
        """Use `open()`. `arena` holds the weights of `model`; other tensors of it are taken as they are."""
        import torch

        self.model = model
        """In eval mode; the same object for life."""
        self.notes = tuple(notes)
        """What did not go as it should, as sentences; the model works all the same."""
        self._arena = arena
        self._tensors = _tensors(model, arena)
        self._host = torch.device("cpu")
        self._placed: torch.Tensor | None = None

    @classmethod
    def open(cls, checkpoint: WeightsSource, dtype: torch.dtype) -> ParkedModel:
        """The model of a checkpoint in host memory, parked.

        Raises:
            EngineUnavailable: the checkpoint cannot be loaded.
        """
        notes: list[str] = []
        model = None
        for _ in range(2):  # a file that does not fit is made anew, once
            fused, model = _fused(checkpoint, dtype, notes)
            if fused is None:
                break
            try:
                return cls(*_assemble(checkpoint, fused), notes)
            except (RuntimeError, OSError, ValueError, KeyError, TypeError) as exc:
                notes.append(f"{fused.path} did not fit the model and was thrown away: {_first_line(exc)}.")
                with contextlib.suppress(OSError):
                    fused.path.unlink()
        if model is None:
            model = checkpoint.load_model(dtype)
        return cls(model, _packed(model), notes)

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
        """What the host copy is."""
        return self._arena.kind

    @property
    def nbytes(self) -> int:
        """Bytes of the weights, which is what a device holds of them while the model is placed."""
        return self._arena.nbytes

    def place(self, device: str) -> None:
        """Copy the weights to `device` and let the model compute there. On `cpu` it is a second copy.

        On return the copy is complete. Nothing happens where the weights are there already.

        Raises:
            GpuBusy: the device has no room; the model is parked.
        """
        import torch

        target = torch.device(device)
        if self._placed is not None:
            there = self._placed.device
            if there.type == target.type and target.index in (None, there.index):
                return
            self.park()
        full = ""
        try:
            arena, moved = self._copied_to(target)
        except torch.OutOfMemoryError as exc:
            full = _first_line(exc)
        except BaseException as exc:
            traceback.clear_frames(exc.__traceback__)  # they hold what was copied so far
            _give_back(target)
            raise
        if full:  # outside of `except`: the error's frames, and what they held, are gone
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
        import torch

        arena = torch.empty(self._arena.nbytes, dtype=torch.uint8, device=target)
        locked = None
        if _reads_host(target) and self._arena.kind != "pinned":
            locked = _LockedCopy.of(self._arena)
        source = self._arena.bytes if locked is None else locked.arena.bytes
        try:
            self._arena.read_ahead(0)
            for start, end in _chunks(self._arena.nbytes):
                self._arena.read_ahead(end)
                if locked is not None:
                    locked.fill(start, end)  # the copy of the chunk before goes on meanwhile
                _copy(arena[start:end], source[start:end])
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
                    _wait(target)  # nothing may read what is unlocked
                _unlock(locked.ranges, locked.arena)
            raise
        if locked is not None:
            self._adopt(locked)
        return arena, moved

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
    """`tensor` as what `model` is: a frozen parameter or a plain buffer."""
    from torch import nn

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
    import torch

    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


def _give_back(device: torch.device) -> None:
    """Let the allocator return what is free, so that other programs see it."""
    import torch

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
    """What `bytes` lies in."""
    start: int = 0
    """Of `bytes` in the mapping; a multiple of `PAGE`."""
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
    import torch

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


def _chunks(nbytes: int) -> Iterator[tuple[int, int]]:
    for start in range(0, nbytes, CHUNK):
        yield start, min(start + CHUNK, nbytes)


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
        free = _host_memory_free()
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
    import torch

    cuda: Any = torch.cuda
    refused = int(cuda.cudart().cudaHostRegister(memory.data_ptr(), memory.nbytes, 0)) != 0
    if refused:
        with contextlib.suppress(RuntimeError):  # the runtime reports a refusal once more, to the next who asks
            torch.zeros(1, device="cuda")
    return not refused


def _unlock(ranges: list[int], arena: _Arena) -> None:
    """Before `arena`'s memory goes back."""
    import torch

    cuda: Any = torch.cuda
    for address in ranges:
        cuda.cudart().cudaHostUnregister(address)


def _host_memory_free() -> int | None:
    """Bytes that this process may still take, within the machine and its container; None where nobody tells."""
    found = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")))
    with contextlib.suppress(OSError, ValueError, IndexError):
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())  # "max" is no limit
        used = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        found.append(limit - int(used["anon"]) - int(used.get("shmem", 0)))
    return min(found, default=None)


# -- the fused file


@dataclass(frozen=True, slots=True)
class _Fused:
    """A fused file that is whole: where it is, and its header."""

    path: Path
    begin: int
    """Of the tensors, in bytes."""
    nbytes: int
    tensors: dict[str, dict[str, Any]]
    """`{name: {"dtype": …, "shape": […], "data_offsets": [begin, end]}}`."""


def _assemble(checkpoint: WeightsSource, fused: _Fused) -> tuple[nn.Module, _Arena]:
    """The model with its weights in the mapped file.

    Raises:
        RuntimeError: its names or shapes are not the model's.
        OSError, ValueError: the file went away.
    """
    import torch

    with fused.path.open("rb") as file:
        if os.fstat(file.fileno()).st_size != fused.begin + fused.nbytes:
            raise ValueError("it changed while it was opened")
        # Private: what is written by mistake stays in this process. One inode: a rename changes nothing here.
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    arena = _Arena(torch.frombuffer(mapping, dtype=torch.uint8)[fused.begin :], "file", mapping, fused.begin)
    state = {}
    for name, entry in fused.tensors.items():
        begin, end = entry["data_offsets"]
        dtype: torch.dtype = getattr(torch, DTYPES[entry["dtype"]])
        state[name] = arena.bytes[begin:end].view(dtype).view(entry["shape"])
    model = checkpoint.empty_model()
    model.load_state_dict(state, strict=True, assign=True)
    checkpoint.rebuild_buffers(model)
    return model.eval().requires_grad_(False), arena


def _fused(checkpoint: WeightsSource, dtype: torch.dtype, notes: list[str]) -> tuple[_Fused | None, nn.Module | None]:
    """The checkpoint's fused file, made now if need be.

    Where it cannot be made, the reason goes to `notes`, and the model comes if it has been loaded for it.
    """
    name = f"native-{str(dtype).removeprefix('torch.')}.safetensors"
    files = [folder / name for folder in _folders(Path(checkpoint.path))]
    try:
        source = _fingerprint(checkpoint, dtype)
        for file in files:
            if (fused := _read(file, source)) is not None:
                return fused, None
        need = _nbytes(checkpoint.empty_model(), dtype)
    except OSError as exc:
        notes.append(f"The checkpoint cannot be examined, so its fused file was not used: {_first_line(exc)}.")
        return None, None
    for file in files:
        with contextlib.ExitStack() as stack:
            if not _prepare(stack, file, notes):
                continue
            if (fused := _read(file, source)) is not None:  # another process made it while we waited
                return fused, None
            _sweep(file)
            free = shutil.disk_usage(file.parent).free
            if free < need + DISK_SPARE:
                notes.append(
                    f"{file.parent} has {free / 1e9:.1f} GB free and {(need + DISK_SPARE) / 1e9:.1f} GB are needed "
                    "to keep the weights ready for use."
                )
                continue
            model = checkpoint.load_model(dtype)
            if _fingerprint(checkpoint, dtype) != source:
                notes.append("The checkpoint changed while it was read, so no fused file was made.")
                return None, model
            try:
                _write(file, model, source)
            except OSError as exc:
                notes.append(f"{file} could not be written: {_first_line(exc)}.")
                return None, model
            return _read(file, source), None
    notes.append("So each load converts the checkpoint again, which takes longer and more memory.")
    return None, None


def _folders(checkpoint: Path) -> list[Path]:
    """Where the fused file may be: beside the checkpoint, or where that is not writable in a cache."""
    key = hashlib.sha256(os.fsencode(checkpoint.resolve())).hexdigest()[:16]
    return [checkpoint / FOLDER, *(folder / key for folder in cache_folders())]


def _nbytes(model: nn.Module, dtype: torch.dtype) -> int:
    """Bytes of the model's weights, of which the floating ones will have `dtype`."""
    return sum(
        tensor.numel() * (dtype.itemsize if tensor.is_floating_point() else tensor.itemsize)
        for tensor in model.state_dict().values()
    )


def _prepare(stack: contextlib.ExitStack, file: Path, notes: list[str]) -> bool:
    """Make the folder and take the lock of `file` for the stack's life; False where we may not write."""
    from filelock import FileLock, Timeout

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        stack.enter_context(FileLock(f"{file}.lock", timeout=LOCK_WAIT_S))
    except Timeout:
        notes.append(f"Another process has held {file}.lock for {LOCK_WAIT_S:.0f} s.")
        return False
    except (OSError, NotImplementedError):  # the latter: a file system without locks
        return False  # the next folder is there for this
    return True


def _sweep(file: Path) -> None:
    """Remove what is of no use: a stale file, and what killed writers left. Caller holds the lock."""
    for old in (file, *file.parent.glob(f"{file.name}.*.tmp")):
        with contextlib.suppress(OSError):
            old.unlink()


def _write(file: Path, model: nn.Module, source: str) -> None:
    """Write the fused file: whole under its name, or not at all. Caller holds the lock.

    Tensors whose length has the larger power of two come first, so that each begins at a multiple of its own.
    """
    import torch

    state = model.state_dict()
    order = sorted(state, key=lambda name: (-math.gcd(state[name].nbytes or 1, ALIGNMENT), name))
    names = {torch_name: name for name, torch_name in DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": {"format": "pt", "source": source}}
    position = 0
    for name in order:
        tensor = state[name]
        header[name] = {
            "dtype": names[str(tensor.dtype).removeprefix("torch.")],
            "shape": list(tensor.shape),
            "data_offsets": [position, position + tensor.nbytes],
        }
        position += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % PAGE)
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb", buffering=0) as out:
            _write_all(out.write, len(text).to_bytes(8, "little") + text)
            for name in order:
                flat = state[name].detach().contiguous().view(-1)
                for piece in flat.view(torch.uint8).split(CHUNK):
                    _write_all(out.write, piece.numpy().data)
            os.fsync(out.fileno())
        os.replace(temporary, file)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    with contextlib.suppress(OSError):  # Windows has no handle of a folder
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _write_all(write: Callable[[Any], int | None], data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[write(view) or 0 :]


def _read(file: Path, source: str) -> _Fused | None:
    """The fused file if it is there, whole, and made from `source`."""
    try:
        with file.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            length = int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= min(HEADER_LIMIT, size - 8):
                return None
            tensors = json.loads(stream.read(length))
        if tensors.pop("__metadata__")["source"] != source:
            return None
        nbytes = max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return _Fused(file, 8 + length, nbytes, tensors) if size == 8 + length + nbytes else None


def _fingerprint(checkpoint: WeightsSource, dtype: torch.dtype) -> str:
    """SHA-256 over everything that decides what is in the fused file.

    Raises:
        OSError: a file of the checkpoint cannot be read.
    """
    import transformers

    facts: list[object] = [FORMAT, str(dtype), transformers.__version__]
    config = Path(checkpoint.path) / "config.json"
    facts.append(hashlib.sha256(config.read_bytes()).hexdigest() if config.is_file() else None)
    for name in sorted(map(str, checkpoint.weight_files)):
        file = Path(name)
        blob = file.resolve()
        status = blob.stat()
        if blob.parent.name == "blobs" and BLOB.fullmatch(blob.name):
            facts.append([file.name, status.st_size, blob.name])
        else:
            facts.append([file.name, status.st_size, status.st_mtime_ns, _sampled(blob, status.st_size)])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _sampled(file: Path, size: int) -> str:
    """SHA-256 of a safetensors header and of `SAMPLES` blocks, from the first to the last."""
    hasher = hashlib.sha256()
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        hasher.update(stream.read(min(length, HEADER_LIMIT)))
        for number in range(SAMPLES):
            stream.seek(max(0, size - SAMPLE) * number // (SAMPLES - 1))
            hasher.update(stream.read(SAMPLE))
    return hasher.hexdigest()


def _first_line(exc: BaseException) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0].rstrip(".")
