"""Claim: on a GPU, three times the tokens a second of plain generate() at batch 1, and ten times at batch 16.

The peer is `model.generate(...)` as the original's `infer()` calls it: greedy, with a cache, no n-gram of 20 tokens
twice in the whole text (35 in its `eval_mode`), one page after the other, because it has no batches. Ours is
`ModelReader`. Both run the same model object on the same pages and prompt, and write the same number of tokens, past
the end token. Vision, prompt and preprocessing do not count as tokens; vision has rows of its own. Ours writes freely:
the benchmark measures the cost of its loop guard on the same tokens apart, and adds it to its time.

The weights are random, so the text is nonsense; every token is the same work. Where the two texts differ, the table
says whether the peer's ban stepped in at that place. Without a GPU, the result says nothing about the claim.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from PIL import Image, ImageDraw, ImageFont

from common import report, say, spread, table, verdict
from deepseek_ocr_mcp.engines.base import PageImage, ReadOptions
from deepseek_ocr_mcp.engines.deepseek.checkpoint import Checkpoint, read_checkpoint
from deepseek_ocr_mcp.engines.deepseek.experts import EXPERTS, use_recordable_experts
from deepseek_ocr_mcp.engines.deepseek.generate import ModelReader
from deepseek_ocr_mcp.engines.deepseek.preprocess import cut_views, read_page
from deepseek_ocr_mcp.engines.deepseek.prompts import encode_prompt, normalised, prompt_for
from deepseek_ocr_mcp.engines.deepseek.slots import Slots
from deepseek_ocr_mcp.engines.loops import LoopGuard
from gpu_bounds import bounds, card_rate, estimates, step_gb
from lifecycle import make_tiny  # also puts tests/engines on the path

BATCHES: Final = (1, 4, 16)
TARGETS: Final = {1: 3.0, 16: 10.0}  # ours / peer, on a GPU
NGRAM: Final = 20  # tokens; the original's no_repeat_ngram_size
RESOLUTION: Final = "base"  # 273 vectors a page
TRIED_BATCHES: Final = {"cuda": (1, 16), "cpu": (1, 4)}  # sixteen prompts take a CPU longer than the measured part
WARM_TOKENS: Final = 4
SEED_BLOCK: Final = 1_000_003  # numbers that are repeated to fill the weights; a prime, so that no two rows are equal

MEDIUM: Final[dict[str, Any]] = {
    "hidden_size": 640,
    "intermediate_size": 2560,
    "num_hidden_layers": 6,
    "num_attention_heads": 10,
    "num_key_value_heads": 10,
    "n_routed_experts": 32,
    "n_shared_experts": 2,
    "num_experts_per_tok": 6,
    "moe_intermediate_size": 448,
    "vocab_size": 32000,
    "max_position_embeddings": 8192,
}
"""Half of v1 in width and depth; 200 M parameters."""

MEDIUM_VISION: Final[dict[str, Any]] = {
    "sam_config": {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "output_channels": 64,
        "mlp_dim": 128,
        "downsample_channels": [64, 64],
        "global_attn_indexes": [],
    },
    "encoder_config": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2},
}


class Patient:
    """A caller that waits."""

    def progress(self, done: float, message: str = "", shares: Mapping[int, float] | None = None) -> None:
        """Not shown."""

    def raise_if_cancelled(self) -> None:
        """Never raises."""

    def is_dropped(self, page: int) -> bool:
        """Never is."""
        return False

    def more(self, room: int) -> Sequence[PageImage]:
        """Never has any."""
        return ()

    def finished(self, page: int, text: object) -> None:
        """Waits for all of them."""


@dataclass(slots=True)
class Run:
    """The result of reading some pages once."""

    tokens: list[tuple[int, ...]]
    vision_s: float
    decode_s: float

    @property
    def rate(self) -> float:
        """Tokens a second; the first of each page comes with its prompt."""
        return sum(len(page) - 1 for page in self.tokens) / self.decode_s


class Bench:
    """The model on its device, the pages, and two ways to read them."""

    def __init__(self, folder: Path, device: str, tokens: int, scratch: Path) -> None:
        self.device = device
        self.tokens = tokens
        self.checkpoint: Checkpoint = read_checkpoint(str(folder))
        self.model: Any = self.checkpoint.load_model(torch.float32 if device == "cpu" else torch.bfloat16).to(device)
        self.model.generation_config.eos_token_id = None  # to the limit, always
        if device == "cuda":
            use_recordable_experts(self.model)
        self.reader = ModelReader(self.checkpoint, self.model)
        self.pages = draw_pages(scratch, max(BATCHES))
        self.options = ReadOptions("document", resolution=RESOLUTION)

    def ours(self, batch: int, reader: ModelReader | None = None, tokens: int = 0) -> Run:
        """All pages side by side."""
        reader = reader or self.reader
        limit = tokens or self.tokens
        reader._room = lambda _limit: batch  # type: ignore[method-assign] # this benchmark ignores the free memory of the machine
        with self._clock() as clock:
            written = reader.read(self.pages[:batch], self.options, Patient(), max_new_tokens=limit, free_running=True)
            seconds = clock.since_prompt()
        if clock.prompts != batch:
            raise SystemExit(f"{batch} pages did not fit side by side.")
        return Run([page.tokens for page in written], clock.vision_s, seconds)

    def peer(self, batch: int, tokens: int = 0) -> Run:
        """One page after the other, as the original does."""
        found = Run([], 0.0, 0.0)
        for page in self.pages[:batch]:
            inputs = self._inputs(page)
            with torch.inference_mode(), self._clock() as clock:
                written = self.model.generate(
                    **inputs,
                    do_sample=False,
                    use_cache=True,
                    no_repeat_ngram_size=NGRAM,
                    max_new_tokens=tokens or self.tokens,
                    eos_token_id=None,
                    pad_token_id=2,
                )
                found.tokens.append(tuple(written[0, inputs["input_ids"].shape[1] :].tolist()))
                found.decode_s += clock.since_prompt()
            found.vision_s += clock.vision_s
        return found

    def _inputs(self, page: PageImage) -> dict[str, Any]:
        checkpoint = self.checkpoint
        views = cut_views(read_page(page.path, page.width, page.height), checkpoint.kind, RESOLUTION)
        ids = encode_prompt(checkpoint.tokenizer, prompt_for(self.options), views.placeholders)
        pixels = normalised(views.whole[None], checkpoint.kind, self.model.lm_head.weight)
        input_ids = torch.tensor([ids], device=self.device)
        return {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids), "pixel_values": pixels}

    @contextmanager
    def _clock(self) -> Iterator[Clock]:
        clock = Clock(self.device)
        inner = self.model.model
        looks = inner.get_image_features

        @functools.wraps(looks)  # generate() asks for its parameters
        def look(*positional: Any, **named: Any) -> Any:
            began = clock.now()
            seen = looks(*positional, **named)
            clock.vision_s += clock.now() - began
            return seen

        inner.get_image_features = look
        hook = inner.language_model.register_forward_hook(clock.step)
        try:
            yield clock
        finally:
            hook.remove()
            del inner.get_image_features


class Clock:
    """Times the prompts and the tokens after them. It waits for the device before it takes a time."""

    def __init__(self, device: str) -> None:
        self.vision_s = 0.0
        self.prompts = 0
        self._device = device
        self._prompt_ended = 0.0

    def now(self) -> float:
        """Seconds, after the device has done its work."""
        if self._device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def step(self, _module: Any, _inputs: Any, output: Any) -> None:
        """A forward hook of the language model."""
        if output.last_hidden_state.shape[1] > 1:
            self.prompts += 1
            self._prompt_ended = self.now()

    def since_prompt(self) -> float:
        """Seconds since the last prompt went through the model."""
        return self.now() - self._prompt_ended


# -- what was tried beside the ModelReader as it is


class Unrecorded(Slots):
    """Every step started kernel by kernel."""

    recorded_on = ()


class Compiled(Unrecorded):
    """The step compiled; on a GPU with CUDA graphs, as `generate(cache_implementation="static")` does."""

    compiled: Any = None  # one for the whole run: compiling for every batch would take most of the time

    def _hidden(self, **inputs: Any) -> Any:
        if "input_ids" not in inputs:
            return super()._hidden(**inputs)
        if Compiled.compiled is None:
            mode = "reduce-overhead" if self._tokens.is_cuda else None
            Compiled.compiled = torch.compile(self._model.model.language_model.forward, mode=mode, dynamic=False)
        output = Compiled.compiled(**inputs, cache=self._cache, use_cache=True)
        return output.last_hidden_state[:, -1].clone()  # the next step writes where this one's result is


@contextmanager
def experts(model: Any, name: str) -> Iterator[None]:
    """The language model's experts computed in another way."""
    before = model.model.language_model.config._experts_implementation
    model.set_experts_implementation(name)
    try:
        yield
    finally:
        model.set_experts_implementation(before)


@contextmanager
def eager_attention(model: Any) -> Iterator[None]:
    """The language model's attention written out, instead of torch's `scaled_dot_product_attention`."""
    config = model.model.language_model.config
    before = config._attn_implementation
    config._attn_implementation = "eager"
    try:
        yield
    finally:
        config._attn_implementation = before


@contextmanager
def _as_it_is(_model: Any) -> Iterator[None]:
    yield


Setting = Callable[[Any], Any]
TRIED: Final[dict[str, tuple[type[Slots], Setting]]] = {
    "no CUDA graph": (Unrecorded, _as_it_is),
    "compiled step": (Compiled, _as_it_is),
    "compiled step, experts batched_mm": (Compiled, lambda model: experts(model, "batched_mm")),
    "experts batched_mm": (Slots, lambda model: experts(model, "batched_mm")),
    "experts grouped_mm": (Slots, lambda model: experts(model, "grouped_mm")),
    "experts as on a card": (Slots, lambda model: experts(model, EXPERTS)),
    "experts eager, the original's loop": (Slots, lambda model: experts(model, "eager")),
    "attention eager": (Slots, eager_attention),
}
"""Against our reader: slots, whose steps are recorded as CUDA graphs on a GPU; attention sdpa."""


def try_out(bench: Bench, rounds: int) -> str:
    """Each of `TRIED` in turns with the ModelReader as it is."""
    rows = []
    for name, (kind, setting) in TRIED.items():
        cells = []
        for batch in TRIED_BATCHES[bench.device]:
            say(f"tried: {name}, batch {batch}")
            reader = ModelReader(bench.checkpoint, bench.model)
            reader._slots = functools.partial(kind, bench.model)  # type: ignore[method-assign]
            quotients, equal, first_s = [], True, time.perf_counter()
            try:
                with setting(bench.model):
                    bench.ours(batch, reader, WARM_TOKENS)  # compiles
                first_s = time.perf_counter() - first_s
                for _ in range(rounds):
                    plain = bench.ours(batch)
                    with setting(bench.model):
                        other = bench.ours(batch, reader)
                    quotients.append(other.rate / plain.rate)
                    equal = equal and other.tokens == plain.tokens
            except Exception as exc:
                say(f"  {type(exc).__name__}: {exc}")
                cells += ["failed", type(exc).__name__, ""]
                continue
            finally:
                Compiled.compiled = None
                torch.compiler.reset()
            cells += [times(quotients), "yes" if equal else "no", f"{first_s:.1f}"]
        rows.append((name, *cells))
    heads = [head for batch in TRIED_BATCHES[bench.device] for head in (f"batch {batch}", "equal", "first, s")]
    return table(("tried", *heads), rows)


# -- against the peer


def guard_cost(pages: Sequence[Sequence[int]]) -> float:
    """Seconds that the loop guard takes for these tokens."""
    began = time.perf_counter()
    for tokens in pages:
        guard = LoopGuard()
        for token in tokens:
            guard.banned()
            guard.add(token, token)
    return time.perf_counter() - began


def agreement(ours: Run, peer: Run) -> str:
    """Whether the tokens are equal, and if not, whether the peer's ban is why."""
    banned = other = 0
    for mine, theirs in zip(ours.tokens, peer.tokens, strict=True):
        if mine == theirs:
            continue
        place = next(index for index, (a, b) in enumerate(zip(mine, theirs, strict=True)) if a != b)
        gram = mine[place - NGRAM + 1 : place + 1]
        seen = len(gram) == NGRAM and any(mine[start : start + NGRAM] == gram for start in range(place - NGRAM + 1))
        banned, other = banned + seen, other + (not seen)
    if not banned and not other:
        return "equal"
    return ", ".join(f"{count} {what}" for count, what in ((banned, "up to its ban"), (other, "DIFFERENT")) if count)


def times(quotients: Sequence[float]) -> str:
    """`×median (min–max)`."""
    return f"×{spread(quotients, 2)}"


@dataclass(slots=True)
class Comparison:
    """Ours against the peer."""

    figures: str
    """The table."""
    ratios: dict[int, list[float]]
    """Ours by the peer's, by batch."""
    rates: dict[int, float]
    """Our tokens a second, by batch."""
    guard_us: float
    """Microseconds of the loop guard for a token."""


def against_peer(bench: Bench, rounds: int) -> Comparison:
    """Both in turns, for each batch."""
    rows = []
    ratios: dict[int, list[float]] = {}
    rates: dict[int, float] = {}
    guard_us = []
    bench.ours(1, tokens=WARM_TOKENS)
    bench.peer(1, WARM_TOKENS)
    for batch in BATCHES:
        ours, peer = [], []
        for number in range(rounds):
            say(f"batch {batch}, round {number + 1} of {rounds}")
            ours.append(bench.ours(batch))
            guard_s = guard_cost(ours[-1].tokens)
            ours[-1].decode_s += guard_s
            guard_us.append(1e6 * guard_s / (batch * bench.tokens))
            peer.append(bench.peer(batch))
        ratios[batch] = [a.rate / b.rate for a, b in zip(ours, peer, strict=True)]
        rates[batch] = statistics.median(run.rate for run in ours)
        rows.append(
            (
                str(batch),
                spread([run.rate for run in ours], 1),
                spread([run.rate for run in peer], 1),
                times(ratios[batch]),
                agreement(ours[0], peer[0]),
                spread([run.vision_s / batch for run in ours], 3),
                spread([run.vision_s / batch for run in peer], 3),
            )
        )
    head = ("pages", "ours, tokens/s", "peer, tokens/s", "ours / peer", "tokens", "vision, s a page", "peer's vision")
    return Comparison(table(head, rows), ratios, rates, statistics.median(guard_us))


def beside_the_bound(card: str, rates: Mapping[int, float]) -> str:
    """Our tokens a second beside what the card's memory allows, and beside the estimate against vLLM."""
    gbs = card_rate(card)
    if gbs is None:
        return f"{card} is not in the table of gpu_bounds.py: add its GB/s there to see what its memory allows."
    limits = {batch: batch * gbs / step_gb(batch) for batch in rates}
    rows = [
        (f"batch {batch}", f"{rate:.0f}", f"{limits[batch]:.0f}", f"{rate / limits[batch]:.0%}")
        for batch, rate in rates.items()
    ]
    head = (card, "tokens/s", f"the bound of {gbs} GB/s", "of it")
    return "\n\n".join([table(head, rows), "Calculated, to compare with:", estimates()])


def gpu_table(found: Comparison, device: str, scale: str) -> str:
    """The table of the claim; empty without a GPU."""
    ratios = found.ratios
    head = ("on a GPU", "ours / peer", "target", "claim")
    if device != "cuda":
        return (
            table(head, [(f"batch {batch}", "", f"≥ ×{target:g}", "") for batch, target in TARGETS.items()])
            + "\n\nNo GPU was at hand: this table is empty, not guessed, and all other figures are of the CPU. "
            + "What cards allow at most:\n\n"
            + bounds()
        )
    rows = [
        (
            f"batch {batch}",
            times(ratios[batch]),
            f"≥ ×{target:g}",
            verdict(statistics.median(ratios[batch]) >= target),
        )
        for batch, target in TARGETS.items()
    ]
    card = torch.cuda.get_device_name()
    parts = [table(head, rows), f"Card: {card}."]
    if scale == "full":
        parts.append(beside_the_bound(card, found.rates))
    return "\n\n".join(parts)


# -- what is read, and with what


def draw_pages(folder: Path, count: int) -> list[PageImage]:
    """Pages of lines, no two the same."""
    pages = []
    font = ImageFont.load_default(size=22)
    for number in range(count):
        image = Image.new("RGB", (850, 1100), "white")
        draw = ImageDraw.Draw(image)
        for line in range(30):
            words = " ".join(f"{(number + 3) * (line + 7) * (word + 11) % 9973}" for word in range(8 + number % 4))
            draw.text((40, 30 + 34 * line), words, "black", font)
        path = folder / f"page-{number}.rgb"
        path.write_bytes(image.tobytes())
        pages.append(PageImage(str(path), *image.size))
    return pages


def make(folder: Path, scale: str) -> None:
    """A random v1 checkpoint in the original's layout; its experts are used evenly, its text varies."""
    if scale == "tiny":
        make_tiny(folder)
        return
    from tiny_deepseek import write_tokenizer

    tags = write_tokenizer(folder)
    ends = {"bos_token_id": 0, "eos_token_id": 1, "n_group": 1, "topk_group": 1, "topk_method": "greedy"}
    sizes = {} if scale == "full" else {"text_config": {**MEDIUM, **ends}, "vision_config": MEDIUM_VISION}
    config = transformers.UnlimitedOcrConfig(image_token_id=tags["<image>"], **sizes)  # its defaults have v1's sizes
    text = config.text_config
    text.layer_types = ["full_attention"] * text.num_hidden_layers
    with torch.device("meta"):
        model = transformers.UnlimitedOcrForConditionalGeneration(config)
    model = model.to(torch.bfloat16).to_empty(device="cpu")
    block = torch.randn(SEED_BLOCK, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    for name, tensor in model.state_dict().items():
        if tensor.dim() == 1 and "norm" in name and name.endswith("weight"):
            tensor.fill_(1)
            continue
        scale_of = 0.0 if name.endswith("bias") else 1.0 / tensor.shape[-1] ** 0.5
        for piece in tensor.view(-1).split(SEED_BLOCK):
            torch.mul(block[: piece.numel()], scale_of, out=piece)
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder, max_shard_size="50GB")
    wanted = (
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "vocab_size", "n_routed_experts", "n_shared_experts", "num_experts_per_tok", "moe_intermediate_size",
        "bos_token_id", "eos_token_id", "max_position_embeddings", "n_group", "topk_group", "topk_method",
    )  # fmt: skip
    raw: dict[str, Any] = {
        "architectures": ["DeepseekOCRForCausalLM"],
        "model_type": "deepseek_vl_v2",
        "language_config": {name: getattr(text, name) for name in wanted} | {"first_k_dense_replace": 1},
    }
    if scale != "full":
        raw["vision_config"] = MEDIUM_VISION
    (folder / "config.json").write_text(json.dumps(raw))


def main() -> None:
    """Measure, print, and save if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--scale", choices=("full", "half", "tiny"), help="3.3 B, 0.2 B or 160 k parameters; default: full on a GPU"
    )
    parser.add_argument("--folder", type=Path, help="keeps the checkpoint; default: a temporary one")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--tokens", type=int, default=0, help="of each page; default: 512 on a GPU, 48 without")
    parser.add_argument("--rounds", type=int, default=3, help="in turns (default %(default)s)")
    parser.add_argument("--no-tried", action="store_true", help="leave out what is tried beside the ModelReader")
    parser.add_argument("--save", action="store_true", help="write results/decode.md")
    parser.add_argument("--bounds", action="store_true", help="print what cards allow, calculated, and nothing else")
    arguments = parser.parse_args()
    if arguments.bounds:
        print(bounds())
        return
    has_gpu = torch.cuda.is_available()
    device = ("cuda" if has_gpu else "cpu") if arguments.device == "auto" else arguments.device
    scale = arguments.scale or ("full" if device == "cuda" else "half")
    tokens = arguments.tokens or (512 if device == "cuda" else 48)

    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        folder = (arguments.folder or scratch) / f"v1-decode-{scale}"
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "config.json").is_file():
            say(f"making a random checkpoint in {folder}")
            make(folder, scale)
        bench = Bench(folder, device, tokens, scratch)
        found = against_peer(bench, arguments.rounds)
        tried = "" if arguments.no_tried else try_out(bench, arguments.rounds)
    parameters = sum(parameter.numel() for parameter in bench.model.parameters())
    parts = [
        found.figures,
        f"“Up to its ban”: the peer's n-gram ban changed its text there, ours writes freely. The loop guard takes "
        f"{found.guard_us:.1f} µs a token, which is in our figures.",
        gpu_table(found, device, scale),
    ]
    if tried:
        parts += [
            "## Tried",
            "Tokens a second against our reader as it is (slots, whose steps are recorded as CUDA graphs on a GPU, "
            "attention sdpa, experts as transformers chooses), in turns. "
            "“First” is the first reading of a few tokens, compilation included.",
            tried,
        ]
    parts.append(
        f"Median (min–max) of {arguments.rounds} rounds; scale {scale}, {parameters / 1e6:.1f} M parameters in "
        f"{str(bench.model.dtype).removeprefix('torch.')}, {tokens} tokens a page, resolution {RESOLUTION}, "
        f"{torch.get_num_threads()} threads. torch {torch.__version__}, transformers {transformers.__version__}."
    )
    report("decode", (__doc__ or "").strip(), "\n\n".join(parts), save=arguments.save)


if __name__ == "__main__":
    main()
