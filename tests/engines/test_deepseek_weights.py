"""The weights of a model: one immutable host copy, and a device copy that comes and goes."""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deepseek_ocr_mcp.engines.deepseek import fused, host_memory, weights
from deepseek_ocr_mcp.engines.deepseek.weights import ParkedModel
from deepseek_ocr_mcp.errors import GpuBusy

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
safetensors_torch = pytest.importorskip("safetensors.torch")
nn = torch.nn


class Net(nn.Module):
    """Slots of every kind: odd lengths, an empty tensor, one parameter in two places, buffers in and not in files."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 7)
        self.second = nn.Linear(7, 300)
        self.scale = nn.Parameter(torch.ones(()))
        self.nothing = nn.Parameter(torch.ones(0, 3))
        self.register_buffer("counted", torch.arange(3))
        self.register_buffer("positions", torch.arange(300).expand((1, -1)), persistent=False)
        self.register_buffer("absent", None)

    def forward(self, x: Any) -> Any:
        return self.second(torch.tanh(self.first(x))) * self.scale + self.positions + self.counted.sum()


class Checkpoint:
    """What `checkpoint.Checkpoint` offers, over one file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.weight_files = (str(path / "model.safetensors"),)
        self.loads = 0

    def empty_model(self) -> Any:
        with torch.device("meta"):
            return Net().eval()

    def load_model(self, dtype: Any) -> Any:
        self.loads += 1
        model = Net()
        model.load_state_dict(safetensors_torch.load_file(self.weight_files[0]))
        return model.to(dtype).eval().requires_grad_(False)

    def rebuild_buffers(self, model: Any) -> None:
        model.positions = torch.arange(300).expand((1, -1))


def write_checkpoint(folder: Path, seed: int = 0) -> Checkpoint:
    folder.mkdir(exist_ok=True)
    torch.manual_seed(seed)
    safetensors_torch.save_file(Net().state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    return Checkpoint(folder)


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(fused, "DISK_SPARE", 0)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return write_checkpoint(tmp_path / "model")


BF16 = torch.bfloat16
INPUT = torch.linspace(-1, 1, 5)[None]


def file_of(checkpoint: Checkpoint) -> Path:
    return Path(checkpoint.path) / ".deepseek-ocr-mcp" / "native-bfloat16.safetensors"


def answer(model: ParkedModel) -> Any:
    with torch.inference_mode():
        return model.model(INPUT.to(BF16)).clone()


def assert_same(model: ParkedModel, expected: Any) -> None:
    """Names, kinds, dtypes, shapes and every bit."""
    for kind in ("named_parameters", "named_buffers"):
        found, wanted = (dict(getattr(each, kind)()) for each in (model.model, expected))
        assert list(found) == list(wanted)
        for name, tensor in wanted.items():
            assert type(found[name]) is type(tensor)
            assert found[name].dtype == tensor.dtype
            assert found[name].shape == tensor.shape
            assert torch.equal(found[name], tensor)
            assert not found[name].requires_grad


# -- the fused file


def test_the_first_load_writes_a_file_that_the_second_maps(checkpoint: Checkpoint) -> None:
    first = ParkedModel.open(checkpoint, BF16)
    assert (first.host, first.notes, checkpoint.loads) == ("file", (), 1)
    second = ParkedModel.open(checkpoint, BF16)
    assert (second.host, second.notes, checkpoint.loads) == ("file", (), 1)
    expected = checkpoint.load_model(BF16)
    for model in (first, second):
        assert_same(model, expected)
        assert not model.model.training
    assert repr(first) == "<ParkedModel parked 0 MB host file>"


def test_the_fused_file_is_plain_safetensors(checkpoint: Checkpoint) -> None:
    ParkedModel.open(checkpoint, BF16)
    found = safetensors_torch.load_file(file_of(checkpoint))
    expected = checkpoint.load_model(BF16).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_weights_begin_where_kernels_want_them(checkpoint: Checkpoint) -> None:
    model = ParkedModel.open(checkpoint, BF16)
    for tensor in model.model.state_dict().values():
        if tensor.numel():
            natural = tensor.nbytes & -tensor.nbytes
            assert tensor.data_ptr() % min(natural, 256) == 0


def test_each_dtype_has_a_file_of_its_own(checkpoint: Checkpoint) -> None:
    ParkedModel.open(checkpoint, BF16)
    assert_same(ParkedModel.open(checkpoint, torch.float32), checkpoint.load_model(torch.float32))
    assert_same(ParkedModel.open(checkpoint, BF16), checkpoint.load_model(BF16))


def test_what_is_written_into_a_weight_by_mistake_does_not_reach_the_file(checkpoint: Checkpoint) -> None:
    model = ParkedModel.open(checkpoint, BF16)
    model.model.first.weight.zero_()
    assert_same(ParkedModel.open(checkpoint, BF16), checkpoint.load_model(BF16))


def test_a_changed_source_is_converted_again(checkpoint: Checkpoint) -> None:
    old = ParkedModel.open(checkpoint, BF16)
    before = answer(old)
    write_checkpoint(Path(checkpoint.path), seed=1)
    new = ParkedModel.open(checkpoint, BF16)
    assert checkpoint.loads == 2
    assert_same(new, checkpoint.load_model(BF16))
    assert torch.equal(answer(old), before)  # whoever mapped the old file keeps it
    assert len(list(file_of(checkpoint).parent.glob("*.safetensors"))) == 1


def test_a_change_that_keeps_length_and_time_is_seen_in_the_content(checkpoint: Checkpoint) -> None:
    ParkedModel.open(checkpoint, BF16)
    file = Path(checkpoint.weight_files[0])
    status = file.stat()
    write_checkpoint(Path(checkpoint.path), seed=2)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_size == status.st_size
    assert_same(ParkedModel.open(checkpoint, BF16), checkpoint.load_model(BF16))


@pytest.mark.parametrize("what", ["config", "transformers", "format"])
def test_what_decides_the_conversion_makes_the_file_stale(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    ParkedModel.open(checkpoint, BF16)
    if what == "config":
        (Path(checkpoint.path) / "config.json").write_text('{"layers": 2}')
    elif what == "transformers":
        monkeypatch.setattr(fused.transformers, "__version__", "99.0")
    else:
        monkeypatch.setattr(fused, "FORMAT", fused.FORMAT + 1)
    ParkedModel.open(checkpoint, BF16)
    assert checkpoint.loads == 2


def test_a_blob_of_the_hubs_cache_is_known_by_its_name(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "snapshot")
    (tmp_path / "blobs").mkdir()
    file, blob = Path(checkpoint.weight_files[0]), tmp_path / "blobs" / ("ab" * 32)
    file.rename(blob)
    file.symlink_to(blob)
    ParkedModel.open(checkpoint, BF16)
    os.utime(blob, (1, 1))
    ParkedModel.open(checkpoint, BF16)
    assert checkpoint.loads == 1


@pytest.mark.parametrize("damage", ["empty", "cut", "longer", "header", "no header", "other tensors", "no offsets"])
def test_a_damaged_file_is_never_used_and_made_anew(checkpoint: Checkpoint, damage: str) -> None:
    ParkedModel.open(checkpoint, BF16)
    file = file_of(checkpoint)
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    if damage == "empty":
        content = b""
    elif damage == "cut":
        content = content[:-1]
    elif damage == "longer":
        content += b"!"
    elif damage == "header":
        content = content[:8] + b"x" * length + content[8 + length :]
    elif damage == "no header":
        content = b"\xff" * len(content)
    else:
        if damage == "other tensors":
            header["third.weight"] = header.pop("second.weight")
        else:
            del header["second.weight"]["shape"]
        text = json.dumps(header).encode()
        content = len(text).to_bytes(8, "little") + text + content[8 + length :]
    file.write_bytes(content)
    model = ParkedModel.open(checkpoint, BF16)
    assert checkpoint.loads == 2
    assert model.host == "file"
    assert_same(model, checkpoint.load_model(BF16))


KILLED = """
import sys, time
import test_deepseek_weights as tests
from deepseek_ocr_mcp.engines.deepseek import fused, weights
whole = fused._write_all
written = []
def slowly(write, data):
    whole(write, data)
    written.append(data)
    if len(written) == 3:
        print("half", flush=True)
        time.sleep(60)
fused._write_all = slowly
fused.DISK_SPARE = 0
weights.ParkedModel.open(tests.Checkpoint(tests.Path(sys.argv[1])), tests.BF16)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows")
def test_a_writer_that_is_killed_leaves_nothing_that_is_used(checkpoint: Checkpoint) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, checkpoint.path],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        text=True,
    )
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == "half\n"
        child.send_signal(signal.SIGKILL)
        child.wait()
    left = list(file_of(checkpoint).parent.glob("*.tmp"))
    assert len(left) == 1
    assert left[0].stat().st_size > 0
    assert not file_of(checkpoint).exists()
    model = ParkedModel.open(checkpoint, BF16)
    assert (checkpoint.loads, model.host, model.notes) == (1, "file", ())
    assert_same(model, checkpoint.load_model(BF16))
    assert not list(file_of(checkpoint).parent.glob("*.tmp"))


def test_two_that_open_at_once_convert_once(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    started, go_on = threading.Event(), threading.Event()
    load = checkpoint.load_model

    def slow_load(dtype: Any) -> Any:
        started.set()
        assert go_on.wait(60)
        return load(dtype)

    monkeypatch.setattr(checkpoint, "load_model", slow_load)
    models: list[ParkedModel] = []
    threads = [threading.Thread(target=lambda: models.append(ParkedModel.open(checkpoint, BF16))) for _ in range(2)]
    for thread in threads:
        thread.start()
        assert started.wait(60)
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert [model.host for model in models] == ["file", "file"]
    assert checkpoint.loads == 1


def test_a_lock_that_nobody_gives_back_is_not_waited_for_forever(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    from filelock import FileLock

    monkeypatch.setattr(fused, "LOCK_WAIT_S", 0.05)
    file_of(checkpoint).parent.mkdir()
    with FileLock(f"{file_of(checkpoint)}.lock"):
        model = ParkedModel.open(checkpoint, BF16)
    assert_same(model, checkpoint.load_model(BF16))
    assert "Another process" in model.notes[0]


# -- without a fused file


def test_a_short_disk_costs_time_but_no_result(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    model = ParkedModel.open(checkpoint, BF16)
    assert model.host == "pageable"
    assert "0.0 GB free" in model.notes[0]
    assert "longer" in model.notes[-1]
    assert checkpoint.loads == 1
    assert not file_of(checkpoint).exists()
    assert_same(model, checkpoint.load_model(BF16))
    model.place("cpu")
    assert_same(model, checkpoint.load_model(BF16))


def test_a_disk_that_fills_up_while_it_is_written_leaves_nothing(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full)
        model = ParkedModel.open(checkpoint, BF16)
    assert checkpoint.loads == 1
    assert "No space left" in model.notes[0]
    assert [path.suffix for path in file_of(checkpoint).parent.iterdir()] in ([], [".lock"])
    assert_same(model, checkpoint.load_model(BF16))


def test_beside_a_checkpoint_that_is_not_writable_a_cache_takes_the_file(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    (Path(checkpoint.path) / ".deepseek-ocr-mcp").write_text("in the way, as a read-only folder is")
    first = ParkedModel.open(checkpoint, BF16)
    assert (first.host, first.notes) == ("file", ())
    assert len(list((tmp_path / "home").rglob("native-bfloat16.safetensors"))) == 1
    ParkedModel.open(checkpoint, BF16)
    assert checkpoint.loads == 1
    (tmp_path / "other").mkdir()
    other = write_checkpoint(tmp_path / "other", seed=3)
    (Path(other.path) / ".deepseek-ocr-mcp").write_text("in the way")
    assert_same(ParkedModel.open(other, BF16), other.load_model(BF16))
    assert len(list((tmp_path / "home").rglob("native-bfloat16.safetensors"))) == 2


def test_a_checkpoint_that_changes_while_it_is_read_is_not_kept(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = checkpoint.load_model

    def load_and_change(dtype: Any) -> Any:
        model = load(dtype)
        write_checkpoint(Path(checkpoint.path), seed=4)
        return model

    monkeypatch.setattr(checkpoint, "load_model", load_and_change)
    model = ParkedModel.open(checkpoint, BF16)
    assert "changed while it was read" in model.notes[0]
    assert not file_of(checkpoint).exists()


# -- place and park


@pytest.fixture(params=["file", "pageable"])
def parked(request: pytest.FixtureRequest, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> ParkedModel:
    """A parked model over each kind of host copy; its arena takes several copies."""
    monkeypatch.setattr(weights, "CHUNK", 1024)
    if request.param == "pageable":
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    model = ParkedModel.open(checkpoint, BF16)
    assert model.host == request.param
    return model


def inside(model: ParkedModel, arena: Any) -> bool:
    first, last = arena.data_ptr(), arena.data_ptr() + arena.nbytes
    return all(first <= p.data_ptr() < last for p in model.model.parameters() if p.numel())


def test_a_placed_model_computes_with_a_copy_of_its_own(parked: ParkedModel, checkpoint: Checkpoint) -> None:
    before, host = answer(parked), list(parked.model.parameters())
    parked.place("cpu")
    assert not parked.parked
    assert parked.device == torch.device("cpu")
    assert not inside(parked, parked._arena.bytes)
    assert_same(parked, checkpoint.load_model(BF16))
    assert torch.equal(answer(parked), before)
    parked.park()
    assert parked.parked
    assert all(now is then for now, then in zip(parked.model.parameters(), host, strict=True))
    assert torch.equal(answer(parked), before)


def test_parking_frees_the_copy_and_copies_nothing(parked: ParkedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    parked.place("cpu")
    copies = [weakref.ref(tensor) for tensor in (parked._placed, *parked.model.parameters())]
    monkeypatch.setattr(weights, "_copy", None)
    parked.park()
    gc.collect()
    assert [copy() for copy in copies] == [None] * len(copies)


def test_placing_twice_and_parking_twice_change_nothing(parked: ParkedModel) -> None:
    parked.park()
    parked.place("cpu")
    there = parked._placed
    parked.place("cpu")
    assert parked._placed is there
    parked.park()
    parked.park()


def test_a_device_holds_what_is_accounted_for(parked: ParkedModel) -> None:
    parked.place("cpu")
    assert parked._placed is not None
    assert parked._placed.nbytes == parked.nbytes
    assert inside(parked, parked._placed)


def test_a_parameter_in_two_slots_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = write_checkpoint(tmp_path / "model")
    load = checkpoint.load_model

    def tied(dtype: Any) -> Any:
        model = load(dtype)
        model.again = nn.Module()
        model.again.weight = model.first.weight
        return model

    monkeypatch.setattr(checkpoint, "load_model", tied)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    model = ParkedModel.open(checkpoint, BF16)
    for move in (lambda: None, lambda: model.place("cpu"), model.park):
        move()
        assert model.model.again.weight is model.model.first.weight


def test_fifty_random_rounds_change_no_bit(parked: ParkedModel, checkpoint: Checkpoint) -> None:
    chance = random.Random(7)
    expected = answer(parked)
    for _ in range(50):
        chance.choice([lambda: parked.place("cpu"), parked.park])()
        assert torch.equal(answer(parked), expected)
    assert_same(parked, checkpoint.load_model(BF16))
    parked.park()
    assert_same(parked, checkpoint.load_model(BF16))


@pytest.mark.parametrize("failure", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("bus error")])
@pytest.mark.parametrize("after", [0, 2])
def test_a_placing_that_fails_half_way_leaves_the_model_parked_and_sound(
    parked: ParkedModel, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, failure: Exception, after: int
) -> None:
    copied: list[Any] = []
    copy = weights._copy

    def fail(target: Any, source: Any) -> None:
        if len(copied) == after:
            raise failure
        copied.append(weakref.ref(target))
        copy(target, source)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "_copy", fail)
        with pytest.raises((GpuBusy, RuntimeError)) as caught:
            parked.place("cpu")
    if isinstance(failure, torch.OutOfMemoryError):
        assert isinstance(caught.value, GpuBusy)
        assert "no room for the weights" in caught.value.message
    assert parked.parked
    assert_same(parked, checkpoint.load_model(BF16))
    parked.place("cpu")
    assert_same(parked, checkpoint.load_model(BF16))


def test_moving_to_a_device_without_room_gives_up_the_old_place_first(
    parked: ParkedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    parked.place("cpu")
    monkeypatch.setattr(weights, "_give_back", lambda _: None)
    with pytest.raises((RuntimeError, AssertionError)):  # this torch has no CUDA, or no such card
        parked.place("cuda:99")
    assert parked.parked
    answer(parked)


# -- memory that a GPU reads by itself; the driver is played here


class Driver:
    """Locks what it is asked to, up to `room` pieces."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int = 1000) -> None:
        self.locked: list[int] = []
        self.room = room
        monkeypatch.setattr(weights, "_reads_host", lambda _: True)
        always = property(lambda _: True, lambda *_: None)  # as if it had been opened with locked=True
        monkeypatch.setattr(ParkedModel, "_locks_host", always, raising=False)
        monkeypatch.setattr(weights, "_pinned", lambda nbytes: torch.empty(nbytes, dtype=torch.uint8))
        monkeypatch.setattr(weights, "_when_sent", lambda _: lambda: None)
        monkeypatch.setattr(weights, "_lock", self.lock)
        monkeypatch.setattr(weights, "_unlock", lambda ranges, _: [self.locked.remove(each) for each in ranges])

    def lock(self, memory: Any) -> bool:
        if len(self.locked) == self.room:
            return False
        assert memory.data_ptr() not in self.locked
        self.locked.append(memory.data_ptr())
        return True


def test_for_a_gpu_the_host_copy_is_locked_once(
    parked: ParkedModel, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(monkeypatch)
    for _ in range(3):
        parked.place("cpu")
        assert parked.host == "pinned"
        assert_same(parked, checkpoint.load_model(BF16))
        parked.park()
        assert_same(parked, checkpoint.load_model(BF16))
    assert len(driver.locked) == -(-parked.nbytes // 1024)
    assert inside(parked, parked._arena.bytes)
    del parked
    gc.collect()


def test_where_the_driver_refuses_the_host_copy_stays_pageable(
    parked: ParkedModel, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(monkeypatch, room=1)
    for _ in range(2):
        parked.place("cpu")
        assert parked.host == "pageable"
        assert_same(parked, checkpoint.load_model(BF16))
        parked.park()
    assert len(driver.locked) == 1


def test_a_failed_placing_unlocks_what_it_locked(
    parked: ParkedModel, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(monkeypatch)
    host, copy = parked.host, weights._copy
    calls: list[int] = []

    def fail(target: Any, source: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("full")
        copy(target, source)

    monkeypatch.setattr(weights, "_copy", fail)
    with pytest.raises(GpuBusy):
        parked.place("cpu")
    assert (driver.locked, parked.host) == ([], host)
    parked.place("cpu")
    assert parked.host == "pinned"
    assert_same(parked, checkpoint.load_model(BF16))


def test_without_host_memory_the_mapped_file_stays_the_host_copy(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(monkeypatch)
    model = ParkedModel.open(checkpoint, BF16)
    monkeypatch.setattr(host_memory, "free_bytes", lambda: 10_000)
    model.place("cpu")
    assert (model.host, driver.locked) == ("file", [])
    assert_same(model, checkpoint.load_model(BF16))


# -- memory that weights pass through on their way to a card


class Stages:
    """Plays the pinned buffers; each fill can be watched, and the copies out of it are late."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pinned: list[int] = []
        self.late: list[tuple[Any, Any]] = []
        self._lock = threading.Lock()
        monkeypatch.setattr(weights, "_reads_host", lambda _: True)
        monkeypatch.setattr(weights, "_pinned", self.pin)
        monkeypatch.setattr(weights, "_copy", self.begin)
        monkeypatch.setattr(weights, "_when_sent", lambda _: self.end_all)
        monkeypatch.setattr(weights, "STAGING_BYTES", 256)

    def pin(self, nbytes: int) -> Any:
        self.pinned.append(nbytes)
        return torch.empty(nbytes, dtype=torch.uint8)

    def begin(self, target: Any, source: Any) -> None:
        with self._lock:
            self.late.append((target, source))

    def end_all(self) -> None:
        with self._lock:
            while self.late:
                target, source = self.late.pop()
                target.copy_(source)


def test_to_a_card_weights_pass_through_a_few_pinned_buffers_and_no_bit_changes(
    parked: ParkedModel, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages, host, before = Stages(monkeypatch), parked.host, answer(parked)
    for _ in range(3):
        stages.pinned.clear()
        parked.place("cpu")
        assert not stages.late
        assert 1 <= len(stages.pinned) <= weights.STAGING_BUFFERS
        assert parked.nbytes > 2 * sum(stages.pinned)
        assert parked.host == host  # no second copy of the weights
        assert_same(parked, checkpoint.load_model(BF16))
        assert torch.equal(answer(parked), before)
        parked.park()


def test_a_copy_that_fails_on_one_thread_ends_the_others_and_leaves_the_model_parked(
    parked: ParkedModel, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = Stages(monkeypatch)
    begin, begun = stages.begin, []

    def fail(target: Any, source: Any) -> None:
        begun.append(1)
        if len(begun) == 6:
            raise torch.AcceleratorError("CUDA error: out of memory\nMore of it")
        begin(target, source)

    monkeypatch.setattr(weights, "_copy", fail)
    with pytest.raises(GpuBusy, match="CUDA error: out of memory"):
        parked.place("cpu")
    assert parked.parked
    assert len(begun) < parked.nbytes // 256
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("staging")]
    stages.late.clear()
    monkeypatch.setattr(weights, "_copy", begin)
    parked.place("cpu")
    assert_same(parked, checkpoint.load_model(BF16))


OPENED = """
import sys, pathlib
import test_deepseek_weights as tests
from deepseek_ocr_mcp.engines.deepseek import fused, weights
fused.DISK_SPARE = 0
model = weights.ParkedModel.open(tests.Large(pathlib.Path(sys.argv[1])), tests.BF16)
print(int(model._arena.bytes.to(tests.torch.int64).sum()), flush=True)
sys.stdin.readline()
"""


class Large(Checkpoint):
    """Weights of 64 MB."""

    def empty_model(self) -> Any:
        with torch.device("meta"):
            return nn.Linear(4096, 8192, bias=False).eval()

    def load_model(self, dtype: Any) -> Any:
        return nn.Linear(4096, 8192, bias=False).to(dtype).eval().requires_grad_(False)

    def rebuild_buffers(self, model: Any) -> None: ...


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux")
def test_two_workers_that_opened_the_weights_hold_the_file_once(checkpoint: Checkpoint) -> None:
    ParkedModel.open(Large(Path(checkpoint.path)), BF16)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", OPENED, checkpoint.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
            text=True,
        )
        for _ in range(2)
    ]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline()  # every page of it was read
        held = [proportional_kb(child.pid, "native-bfloat16.safetensors") for child in children]
    finally:
        for child in children:
            child.communicate("\n", timeout=60)
    assert all(0.4 * 65_536 < kb < 0.6 * 65_536 for kb in held)


def proportional_kb(pid: int, name: str) -> int:
    """The share of a mapped file in memory that counts for this process, in kB (Pss)."""
    total, inside = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if "-" in line.split(" ", 1)[0]:
            inside = line.endswith(name)
        elif inside and line.startswith("Pss:"):
            total += int(line.split()[1])
    return total


# -- the real checkpoints


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_a_real_architecture_gives_the_same_logits_from_every_copy(tmp_path: Path, kind: str) -> None:
    import tiny_deepseek

    from deepseek_ocr_mcp.engines.deepseek.checkpoint import read_checkpoint

    folder = getattr(tiny_deepseek, f"make_{kind}")(tmp_path / kind)
    checkpoint = read_checkpoint(str(folder))
    reference = checkpoint.load_model(BF16)
    ids = torch.arange(5, 30)[None]
    with torch.inference_mode():
        expected = reference(input_ids=ids).logits
        for model in (ParkedModel.open(checkpoint, BF16), ParkedModel.open(checkpoint, BF16)):
            assert (model.host, model.notes) == ("file", ())
            for move in (lambda: None, lambda model=model: model.place("cpu"), model.park):
                move()
                assert_same(model, reference)
                assert torch.equal(model.model(input_ids=ids).logits, expected)
