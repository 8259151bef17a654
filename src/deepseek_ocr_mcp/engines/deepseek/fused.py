"""Converts a checkpoint once and keeps it as a *fused* file: one safetensors file in the model's own layout.

The file is beside the checkpoint, or in a cache if that folder is not writable. It is written under a lock to a
temporary file, which is renamed when it is whole and on the disk. It is used only if it is as long as its header says,
and if it was made from the source as it is now. The source is identified by its weight files, config.json, the dtype
and the release of transformers. Of a weight file count its name, length, time, header and 16 blocks; of a blob of the
hub's cache, the SHA-256 in its name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import torch
import transformers
from filelock import FileLock, Timeout
from torch import nn

from ..hub import cache_folders
from ..safetensors_header import Header, read_header
from .shortage import first_line

__all__ = ["ALIGNMENT", "DTYPES", "PAGE", "FusedFile", "Source", "fused_file"]

FORMAT: Final = 2  # of the fused file; a new number makes every older file stale
FOLDER: Final = ".deepseek-ocr-mcp"  # beside the checkpoint; a dot, so that no reader of `*.safetensors` finds it
CHUNK: Final = 256 << 20  # bytes of one write
PAGE: Final = 4096  # bytes; where the tensors of a fused file begin
ALIGNMENT: Final = 256  # bytes; CUDA aligns its own allocations to as many
SAMPLES: Final = 16  # blocks of a weight file that are hashed
SAMPLE: Final = 64 << 10  # bytes
DISK_SPARE: Final = 1 << 30  # bytes that stay free on the disk
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


class Source(Protocol):
    """The part of a `checkpoint.Checkpoint` that is used here."""

    @property
    def path(self) -> str | Path: ...
    @property
    def weight_files(self) -> Sequence[str | Path]: ...
    def empty_model(self) -> nn.Module: ...
    def load_model(self, dtype: torch.dtype) -> nn.Module: ...
    def rebuild_buffers(self, model: nn.Module) -> None: ...


@dataclass(frozen=True, slots=True)
class FusedFile:
    """A fused file that is whole: where it is, and its header."""

    path: Path
    header: Header

    @property
    def tied(self) -> dict[str, str]:
        """Names of weights that are in the file under another name, which is the value.

        Raises:
            ValueError: the header says something else.
        """
        tied = json.loads(self.header.metadata.get("tied", "{}"))
        if not isinstance(tied, dict) or not all(isinstance(name, str) for name in tied.values()):
            raise ValueError(f"{self.path} has a header of another form")
        return tied


def fused_file(checkpoint: Source, dtype: torch.dtype, notes: list[str]) -> tuple[FusedFile | None, nn.Module | None]:
    """The checkpoint's fused file, written now if it is not there.

    Args:
        checkpoint: to convert.
        dtype: of the weights in the file.
        notes: gets the reasons where the file cannot be written.

    Returns:
        The file, or None; and the model, where it was loaded and no file came of it.
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
        notes.append(f"The checkpoint cannot be examined, so its fused file was not used: {first_line(exc)}.")
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
                notes.append(f"{file} could not be written: {first_line(exc)}.")
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
    """Remove a stale file and the temporary files of killed writers. Caller holds the lock."""
    for old in (file, *file.parent.glob(f"{file.name}.*.tmp")):
        with contextlib.suppress(OSError):
            old.unlink()


def _write(file: Path, model: nn.Module, source: str) -> None:
    """Write the fused file: whole under its name, or not at all. Caller holds the lock.

    Tensors whose length has the larger power of two come first, so that each begins at a multiple of its own. A weight
    that the model has under two names, as a head that is tied to the table of tokens, is written once.
    """
    state = model.state_dict()
    tied = _tied(state)
    for name in tied:
        del state[name]
    order = sorted(state, key=lambda name: (-math.gcd(state[name].nbytes or 1, ALIGNMENT), name))
    names = {torch_name: name for name, torch_name in DTYPES.items()}
    metadata = {"format": "pt", "source": source} | ({"tied": json.dumps(tied)} if tied else {})
    header: dict[str, Any] = {"__metadata__": metadata}
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


def _tied(state: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Names of tensors that are others once more: the same memory, shape and dtype."""
    first: dict[tuple[object, ...], str] = {}
    tied = {}
    for name, tensor in state.items():
        key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and first.setdefault(key, name) != name:
            tied[name] = first[key]
    return tied


def _write_all(write: Callable[[Any], int | None], data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[write(view) or 0 :]


def _read(file: Path, source: str) -> FusedFile | None:
    """The fused file if it is there, whole, and made from `source`."""
    try:
        header = read_header(file)
        made_from_source = header.metadata["source"] == source
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return FusedFile(file, header) if made_from_source and header.is_whole else None


def _fingerprint(checkpoint: Source, dtype: torch.dtype) -> str:
    """SHA-256 over everything that the content of the fused file depends on.

    Raises:
        OSError: a file of the checkpoint cannot be read.
    """
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
    try:
        hasher = hashlib.sha256(read_header(file).text)
    except ValueError:  # loading it will name the fault
        hasher = hashlib.sha256()
    with file.open("rb") as stream:
        for number in range(SAMPLES):
            stream.seek(max(0, size - SAMPLE) * number // (SAMPLES - 1))
            hasher.update(stream.read(SAMPLE))
    return hasher.hexdigest()
