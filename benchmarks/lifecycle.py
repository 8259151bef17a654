"""Claim: loading takes a tenth of from_pretrained's time and at most 0.6 of its memory; moving is a bare copy.

The peer is the original's way: `from_pretrained(...)`, `.to(device)`, `.to("cpu")`, `empty_cache()`, with the same
classes of transformers on the same random v1 checkpoint. Each life is a process of its own. Imports do not count; they
are the same. The floor is a bare copy of as many bytes from host memory to the device in one piece, pinned on a GPU, in
turns with ours.

On a GPU both ways of parking are measured (`OCR_PARK`): `ours` streams the mapped file through pinned buffers,
`resident` keeps a locked copy. `--bounds` prints what a slot allows, calculated, and measures nothing.

Without a GPU the device is a second copy in host memory, and the original's `.to()` is its own mechanism,
`_apply()`, with a clone of each tensor: on one device `.to()` itself would do nothing.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psutil

from common import MB, environment, ratio, report, say, spread, table, verdict
from gpu_bounds import slot_bounds

HERE: Final = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "tests" / "engines"))  # tiny_deepseek: the tests' checkpoint maker

LOAD_RATIO: Final = 0.1
MEMORY_RATIO: Final = 0.6
OFFLOAD_S: Final = 0.05
RESTORE_OF_BARE: Final = 1.25
RESTORE_EXTRA_S: Final = 0.05
GPU_LOAD_S: Final = 2.0
GPU_MOVE_RATIO: Final = 0.1

CHILD_TIMEOUT_S: Final = 1800.0
MOVES: Final = 5  # rounds of place and park in one life
CHUNK: Final = 64 << 20  # bytes
LIVES: Final = ("original", "ours")
DTYPE: Final = "bfloat16"
FULL_PARAMETERS: Final = 3_000_000_000


# -- in the parent


def run_child(what: str, folder: Path, device: str, *, release: bool = False) -> dict[str, Any]:
    """Run one life in a process of its own. With `release`, also measure the seconds of its end, as `release_s`."""
    child = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), "--child", what, "--folder", str(folder), "--device", device],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(TOKENIZERS_PARALLELISM="false"),
        text=True,
    )
    watchdog = threading.Timer(CHILD_TIMEOUT_S, child.kill)
    watchdog.start()
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        line = child.stdout.readline()
        if not line:
            sys.exit(f"The life {what} ended with {child.wait()}; what it said is above.")
        result: dict[str, Any] = json.loads(line)
        began = time.perf_counter()
        if release:
            child.send_signal(signal.SIGKILL)
        else:
            child.stdin.close()
        child.wait()
        result["release_s"] = time.perf_counter() - began
        child.stdin.close()
        child.stdout.close()
        return result
    finally:
        watchdog.cancel()
        if child.poll() is None:
            child.kill()
            child.wait()


def warm(folder: Path) -> int:
    """Read the files of a folder, so that the page cache has them. Returns their bytes."""
    count = 0
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb", buffering=0) as stream:
            while block := stream.read(CHUNK):
                count += len(block)
    return count


def cool(folder: Path) -> None:
    """Ask the kernel to forget the files of a folder."""
    if not hasattr(os, "posix_fadvise"):
        return
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(folder: Path, device: str, rounds: int) -> dict[str, Any]:
    """All lives: `{"first": …, "cold": {life: …}, "original": […], "ours": […]}`."""
    native = folder / ".deepseek-ocr-mcp"
    for file in native.glob("*.safetensors"):
        file.unlink()
    found: dict[str, Any] = {"cold": {}, "original": [], "ours": []}
    warm(folder)
    say("ours, the first load: converts and writes the fused file")
    found["first"] = run_child("ours", folder, device)
    places = {"original": folder, "ours": native}
    for life in LIVES:
        say(f"{life}, from disk")
        for place in places.values():
            cool(place)
        found["cold"][life] = run_child(life, folder, device)
        warm(places[life])
        for number in range(rounds):
            say(f"{life}, from the page cache, {number + 1} of {rounds}")
            found[life].append(run_child(life, folder, device, release=life == "ours"))
        cool(places[life])
    found["resident"] = []
    if device == "cuda":
        warm(native)
        for number in range(rounds):
            say(f"resident, {number + 1} of {rounds}")
            found["resident"].append(run_child("resident", folder, device, release=True))
    marks = {life["checksum"] for name in (*LIVES, "resident") for life in found[name]}
    if len(marks) != 1:
        sys.exit("The two have not loaded the same weights.")
    return found


def column(lives: list[dict[str, Any]], name: str) -> list[float]:
    """One figure of every life; lists are joined."""
    values: list[float] = []
    for life in lives:
        value = life[name]
        values += value if isinstance(value, list) else [value]
    return values


def tables(found: dict[str, Any], device: str) -> str:
    """The figures, their ratios and the verdicts."""
    ours, peer = found["ours"], found["original"]

    def row(label: str, name: str, digits: int, scale: float = 1.0) -> tuple[str, str, str, str]:
        a, b = ([value * scale for value in column(lives, name)] for lives in (ours, peer))
        return label, spread(a, digits), spread(b, digits), ratio(a, b)

    def claimed(name: str, limit: float) -> str:
        quotients = [a / b for a, b in zip(column(ours, name), column(peer, name), strict=True)]
        return f"{verdict(statistics.median(quotients) <= limit)} (worst pair ×{max(quotients):.2f})"

    rows = [
        row("load from the page cache, s", "load_s", 3),
        row("load and touch every page, s", "touched_s", 3),
        (
            "load from disk and touch every page, s",
            f"{found['cold']['ours']['touched_s']:.2f}",
            f"{found['cold']['original']['touched_s']:.2f}",
            ratio(*([found["cold"][life]["touched_s"]] for life in LIVES[::-1])),
        ),
        row("peak of resident memory while loading, MB", "peak_mb", 0),
        row("of it not backed by a file, MB", "peak_anonymous_mb", 0),
        row("the same with every page touched, MB", "touched_peak_mb", 0),
        row("to the device, s", "place_s", 3),
        row("off the device, s", "park_s", 4),
        row("memory of our own while parked, MB", "parked_anonymous_mb", 0),
    ]
    first = found["first"]
    bare = column(ours, "bare_s")
    lines = [
        f"First load, which converts the checkpoint and writes the fused file: {first['load_s']:.1f} s, "
        f"peak {first['peak_mb']:.0f} MB.",
        f"Bare copy of the same bytes: {spread(bare, 3)} s; ours / bare {ratio(column(ours, 'place_s'), bare)}. "
        f"Release (SIGKILL to reaped): {spread(column(ours, 'release_s'), 2)} s; nothing of it is left.",
        f"Loading from the page cache in at most ×{LOAD_RATIO} of the time: {claimed('load_s', LOAD_RATIO)}; "
        f"with every page touched in both: {claimed('touched_s', LOAD_RATIO)}. Peak of resident memory at most "
        f"×{MEMORY_RATIO}, with every page touched in both: {claimed('touched_peak_mb', MEMORY_RATIO)}."
        if first["parameters"] > FULL_PARAMETERS
        else "The claims are about the full size: at this one all times are overhead and all memory is Python's.",
    ]
    return "\n\n".join([table(("", "ours", "the original's way", "ratio"), rows), *lines, gpu_table(found, device)])


def gpu_table(found: dict[str, Any], device: str) -> str:
    """The table of the GPU; empty without a GPU."""
    head = ("on a GPU", "ours", "target", "claim")
    if device != "cuda":
        names = (
            "restore, s",
            "restore, OCR_PARK=resident, s",
            "offload, ms",
            "load to the card, s",
            "context, which a successor gives back, MiB",
            "NVML after release, MiB",
        )
        return (
            table(head, [(name, "", "", "") for name in names])
            + "\n\nNo GPU was at hand: this table is empty, not guessed, and all figures above are of the CPU. "
            + "What a slot allows at most:\n\n"
            + slot_bounds()
        )
    ours, peer = found["ours"], found["original"]
    bound = RESTORE_OF_BARE * statistics.median(column(ours, "bare_s")) + RESTORE_EXTRA_S
    restore, offload = column(ours, "place_s"), column(ours, "park_s")
    to_card = [life["load_s"] + life["first_place_s"] for life in ours]
    quicker = max(
        a / b for a, b in zip(restore + offload, column(peer, "place_s") + column(peer, "park_s"), strict=True)
    )
    left = max(life["context_mib"] for life in ours)
    rows = [
        ("restore, s", spread(restore, 3), f"≤ {bound:.3f}", verdict(max(restore) <= bound)),
        ("restore, OCR_PARK=resident, s", spread(column(found["resident"], "place_s"), 3), "", ""),
        ("offload, ms", spread([s * 1000 for s in offload], 1), "≤ 50", verdict(max(offload) <= OFFLOAD_S)),
        ("restore and offload / original's", f"×{quicker:.3f}", "≤ 0.1", verdict(quicker <= GPU_MOVE_RATIO)),
        ("load to the card, s", spread(to_card, 2), f"≤ {GPU_LOAD_S:g}", verdict(max(to_card) <= GPU_LOAD_S)),
        ("context, which a successor gives back, MiB", f"{left:.0f}", "", ""),
        ("NVML after release, MiB", *after_release(found)),
    ]
    return table(head, rows) + f"\n\nHost copy: {ours[0]['host']}. Card: {ours[0]['card']}."


def after_release(found: dict[str, Any]) -> tuple[str, str, str]:
    """MiB that the card still lacks after the last life."""
    from deepseek_ocr_mcp.gpu.probe import GpuProbe

    life = found["first"]
    free = GpuProbe().free_mb(life["uuid"]) if life["uuid"] else None
    if free is None:
        return "", "0", "NVML does not tell"
    missing = max(0, life["free_before_mib"] - free)
    return f"{missing}", "0", verdict(missing == 0)


# -- in a child


@contextmanager
def peak_memory(result: dict[str, Any], prefix: str) -> Iterator[None]:
    """Add the most resident memory, in MB: of this process in all, and that which is backed by no file."""
    most = {"VmRSS": 0.0, "RssAnon": 0.0}
    done = threading.Event()

    def watch() -> None:
        while True:
            now = memory_mb()
            for name in most:
                most[name] = max(most[name], now[name])
            if done.wait(0.002):
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        now = memory_mb()
        result[f"{prefix}peak_mb"] = max(most["VmRSS"], now["VmRSS"])
        result[f"{prefix}peak_anonymous_mb"] = max(most["RssAnon"], now["RssAnon"])


def memory_mb() -> dict[str, float]:
    """Resident memory of this process by kind, in MB; zeros where /proc does not tell."""
    found = {"VmRSS": 0.0, "RssAnon": 0.0}
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in found:
                found[name] = int(value.split()[0]) * 1024 / MB
    except OSError:
        pass
    return found


def timed(work: Callable[[], object], device: str) -> float:
    """Seconds until the work is complete, on the device too."""
    import torch

    began = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def checksum(model: Any) -> int:
    """A sum over one byte of each page of each weight: brings all of them into memory."""
    import torch

    total = 0
    for _, tensor in sorted(model.state_dict().items()):
        total += int(tensor.detach().reshape(-1).view(torch.uint8)[::4096].sum())
    return total


def life_original(folder: Path, device: str, result: dict[str, Any]) -> None:
    """from_pretrained, to the device and back as the original does it."""
    import torch

    from deepseek_ocr_mcp.engines.deepseek.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(str(folder))
    model: Any = None

    def load() -> None:
        nonlocal model
        model = checkpoint.load_model(getattr(torch, DTYPE))

    load_and_touch(load, lambda: model, device, result)

    def to_device() -> None:
        if device == "cpu":
            model._apply(lambda tensor: tensor.clone())
        else:
            model.to(device)

    def back() -> None:
        if device == "cpu":
            model._apply(lambda tensor: tensor.clone())
        else:
            model.to("cpu")
            torch.cuda.empty_cache()

    move(to_device, back, device, result)


def life_resident(folder: Path, device: str, result: dict[str, Any]) -> None:
    """`ParkedModel` with a locked copy of the weights in host memory: OCR_PARK=resident."""
    life_ours(folder, device, result, locked=True)


def life_ours(folder: Path, device: str, result: dict[str, Any], *, locked: bool = False) -> None:
    """`ParkedModel`."""
    import torch

    from deepseek_ocr_mcp.engines.deepseek.checkpoint import read_checkpoint
    from deepseek_ocr_mcp.engines.deepseek.weights import ParkedModel

    checkpoint = read_checkpoint(str(folder))
    parked: Any = None

    def load() -> None:
        nonlocal parked
        parked = ParkedModel.open(checkpoint, getattr(torch, DTYPE), locked=locked)

    load_and_touch(load, lambda: parked.model, device, result)
    for note in parked.notes:
        say(note)
    result["parameters"] = sum(parameter.numel() for parameter in parked.model.parameters())
    result["bare_s"] = []
    bare = bare_copy(parked, device)
    bare()
    move(lambda: parked.place(device), parked.park, device, result, lambda: result["bare_s"].append(bare()))
    result["host"] = parked.host
    parked.place(device)  # so that the release finds everything in use


def load_and_touch(load: Callable[[], None], model: Callable[[], Any], device: str, result: dict[str, Any]) -> None:
    with peak_memory(result, "touched_"):
        with peak_memory(result, ""):
            result["load_s"] = timed(load, device)
        began = time.perf_counter()
        result["checksum"] = checksum(model())
        result["touched_s"] = result["load_s"] + time.perf_counter() - began


def move(
    there: Callable[[], object],
    back: Callable[[], object],
    device: str,
    result: dict[str, Any],
    between: Callable[[], object] = lambda: None,
) -> None:
    result["first_place_s"] = timed(there, device)
    result["first_park_s"] = timed(back, device)
    result["place_s"], result["park_s"] = [], []
    for _ in range(MOVES):
        result["place_s"].append(timed(there, device))
        result["park_s"].append(timed(back, device))
        between()
    gc.collect()
    result["parked_anonymous_mb"] = memory_mb()["RssAnon"]
    if device == "cuda":
        result["context_mib"] = result["free_before_mib"] - (free_mib(result["uuid"]) or 0)


def bare_copy(parked: Any, device: str) -> Callable[[], float]:
    """Seconds of a copy of one run of bytes as long as the weights; the copy is dropped again.

    On a CPU the bytes are the host copy itself: a second one would crowd out what is measured.
    """
    import torch

    on_gpu = device == "cuda"
    host = torch.ones(parked.nbytes, dtype=torch.uint8, pin_memory=True) if on_gpu else parked._arena.bytes

    def copy() -> float:
        kept: list[Any] = []
        seconds = timed(lambda: kept.append(host.to(device, non_blocking=True, copy=True)), device)
        kept.clear()
        if on_gpu:
            torch.cuda.empty_cache()
        return seconds

    return copy


def life_make(folder: Path, device: str, result: dict[str, Any]) -> None:
    """A v1 checkpoint of full size with random weights, in one file and in the original's layout."""
    import torch
    from tiny_deepseek import write_tokenizer
    from transformers import UnlimitedOcrConfig, UnlimitedOcrForConditionalGeneration
    from transformers.utils import logging

    logging.disable_progress_bar()
    tags = write_tokenizer(folder)
    config = UnlimitedOcrConfig(image_token_id=tags["<image>"])  # its defaults have v1's sizes
    text = config.text_config
    text.layer_types = ["full_attention"] * text.num_hidden_layers
    with torch.device("meta"):
        model = UnlimitedOcrForConditionalGeneration(config)
    model = model.to(torch.bfloat16).to_empty(device="cpu")
    block = torch.randn(1 << 20, dtype=torch.bfloat16) * 0.02
    for tensor in model.state_dict().values():
        for piece in tensor.view(-1).split(block.numel()):
            piece.copy_(block[: piece.numel()])
    result["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    model.save_pretrained(folder, max_shard_size="50GB")
    wanted = (
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "vocab_size", "n_routed_experts", "n_shared_experts", "num_experts_per_tok", "moe_intermediate_size",
        "bos_token_id", "eos_token_id", "max_position_embeddings", "n_group", "topk_group", "topk_method",
    )  # fmt: skip
    raw = {
        "architectures": ["DeepseekOCRForCausalLM"],
        "model_type": "deepseek_vl_v2",
        "language_config": {name: getattr(text, name) for name in wanted} | {"first_k_dense_replace": 1},
    }
    (folder / "config.json").write_text(json.dumps(raw))


def free_mib(uuid: str) -> int | None:
    """Free memory of the card as NVML sees it."""
    from deepseek_ocr_mcp.gpu.probe import GpuProbe

    return GpuProbe().free_mb(uuid) if uuid else None


def child(what: str, folder: Path, device: str) -> None:
    """Live, write the figures as a line, and wait for the end of stdin."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keep the output of libraries out of the figures
    import torch
    import transformers
    import transformers.conversion_mapping
    import transformers.core_model_loading
    import transformers.models.unlimited_ocr.modeling_unlimited_ocr  # imports are not part of loading

    result: dict[str, Any] = {"torch": torch.__version__, "transformers": transformers.__version__, "uuid": ""}
    if device == "cuda" and what != "make":
        result["card"] = torch.cuda.get_device_name()
        result["uuid"] = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
        result["free_before_mib"] = free_mib(result["uuid"]) or 0
        torch.zeros(1, device=device)
    lives = {"original": life_original, "ours": life_ours, "resident": life_resident, "make": life_make}
    lives[what](folder, device, result)
    out.write(json.dumps(result) + "\n")
    out.flush()
    sys.stdin.read()
    os._exit(0)


def has_gpu() -> bool:
    """Whether torch sees a card; asked in a child, so that this process holds no context."""
    code = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-P", "-c", code], env=environment(), check=False).returncode == 0


def make_tiny(folder: Path) -> None:
    """The checkpoint of the tests."""
    code = "import pathlib, sys, tiny_deepseek as tiny; tiny.make_v1(pathlib.Path(sys.argv[1]))"
    env = environment(PYTHONPATH=str(HERE.parent / "tests" / "engines"))
    subprocess.run([sys.executable, "-c", code, str(folder)], env=env, check=True, stderr=subprocess.DEVNULL)


def main() -> None:
    """Measure, print, and save if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=("full", "tiny"), default="full", help="6.7 GB of weights, or 0.3 MB")
    parser.add_argument("--folder", type=Path, help="keeps the checkpoint; default: a temporary one")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--rounds", type=int, default=3, help="lives of each (default %(default)s)")
    parser.add_argument("--bounds", action="store_true", help="print what slots allow, calculated, and nothing else")
    parser.add_argument("--save", action="store_true", help="write results/lifecycle.md")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bounds:
        print(slot_bounds())
        return
    if arguments.child:
        child(arguments.child, arguments.folder, arguments.device)
        return

    device = ("cuda" if has_gpu() else "cpu") if arguments.device == "auto" else arguments.device
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)) / f"v1-{arguments.scale}"
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "config.json").is_file():
            say(f"making a random checkpoint in {folder}")
            if arguments.scale == "tiny":
                make_tiny(folder)
            else:
                run_child("make", folder, "cpu")
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        found = measure(folder, device, arguments.rounds)
    text = "\n\n".join(
        [
            tables(found, device),
            f"Median (min–max) of {arguments.rounds} lives of each, {MOVES} moves in each, of {size / 1e9:.3f} GB "
            f"of weights in {DTYPE}; 1 MB is 10⁶ bytes. torch {found['first']['torch']}, "
            f"transformers {found['first']['transformers']}, safetensors {version('safetensors')}. "
            f"Load of the machine at the end: {psutil.getloadavg()[0]:.1f}.",
        ]
    )
    claim = (__doc__ or "").strip()
    report("lifecycle", claim, text, save=arguments.save)


if __name__ == "__main__":
    main()
