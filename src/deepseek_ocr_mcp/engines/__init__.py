"""The engines by name. A new engine is a folder in this package and one entry in `KNOWN`.

Both children import this package first: it imports nothing of an engine, and next to nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Protocol

from .. import __version__
from ..errors import BadRequest
from ..install import extra_command
from ..modes import MODES
from ..worker.confine import ALL_BUT_SPYING, Rights
from .precision import choose_precision
from .vision_models import VisionModel, model_named, model_of_name

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "EMBEDDED",
    "KNOWN",
    "PREFERRED",
    "Card",
    "EngineSpec",
    "choose_engine",
    "cpu_engine",
    "fetch_weights",
    "missing_packages",
    "weights_to_fetch",
]

_THIS_PROCESS: Final = os.urandom(8).hex()


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """The facts of an engine that the parent knows without importing it."""

    name: str
    target: str
    """`package.module:Class`, imported by the child only; empty: it reads elsewhere, and there is no child."""
    modes: frozenset[str]
    gpu_mb: int = 0
    """MiB it needs on a card to load and read; 0 for an engine that runs on the CPU."""
    opens: bool = False
    """Whether it has `open()`: its weights can be mapped before a card is chosen."""
    batch_pages: int = 1
    """Pages of one document read under one hold of the inference lock."""
    shared_pages: int = 1
    """Pages read at once where several requests wait; 1 for an engine that reads one after the other."""
    needs: tuple[str, ...] = ()
    """Modules that must be installed."""
    extra: str = ""
    """The extra of this project that brings `needs`; empty: the base install brings them."""
    weights: str = ""
    """Hub id of the weights that `OCR_MODEL` may replace; empty: they come with a package."""
    other_weights: tuple[str, ...] = ()
    """Hub ids of weights that serve as well where `weights` are not here: those of an older model, fetched before."""
    gives_lines: bool = False
    """In the mode `ocr` it gives a block for each line: it can read the part of a page that its text does not hold."""
    title: str = ""
    """Its name as its makers write it, for people; empty: `name`."""
    rights: Rights = ALL_BUT_SPYING
    """What its worker keeps of the server's rights."""
    asks: str = ""
    """Settings of its own that change the text; they are part of its version."""

    @property
    def is_known(self) -> bool:
        """Whether it is one of `KNOWN`, with the facts of another model perhaps."""
        return self.name in KNOWN and KNOWN[self.name].target == self.target

    def for_model(self, model: str) -> EngineSpec:
        """The same engine with the modes and the memory of the model that `OCR_MODEL` names, where it is in the table.

        Where it names none, the weights are chosen here, once for the life of a server: a model that is fetched later
        must not count as the one that read the pages of before.

        Args:
            model: `OCR_MODEL`; empty: the first of `weights` and `other_weights` that is here, else as it is.
        """
        if self.extra != "gpu":
            return self
        if not model:
            here = next((name for name in (self.weights, *self.other_weights) if self.weights_here(name)), None)
            return self if here is None else replace(self, weights=here, other_weights=())
        folder = None if (row := model_of_name(model)) else self.weights_here(model)
        row = row or (model_of_name(str(folder)) if folder else None)
        return self if row is None else replace(self, modes=row.modes, gpu_mb=row.gpu_mb)

    @property
    def about_weights(self) -> str:
        """A sentence where another model reads because the default one is not here; else empty."""
        if not self.weights or not self.is_known:
            return ""
        here, default = model_of_name(self.weights), model_of_name(KNOWN[self.name].weights)
        if here is None or default is None or here is default:
            return ""
        return (
            f"It reads with {here.name}, whose weights are here; those of {default.name}, the default, are not. To "
            f"change that, run `deepseek-ocr-mcp download` and start again; to keep it, set OCR_MODEL={self.weights}."
        )

    @property
    def is_remote(self) -> bool:
        """Whether endpoints elsewhere read, so that no worker is needed."""
        return not self.target

    def weights_here(self, model: str) -> Path | None:
        """The folder of the weights, if all of them are on this machine. `model` is `OCR_MODEL`."""
        from .hub import resolve_model

        names = (model,) if model else (self.weights, *self.other_weights)
        return next(filter(None, map(resolve_model, names)), None)

    def version(self, model: str, precision: str = "auto") -> str:
        """Changes whenever the same page may come out otherwise: with the engine's packages, its weights, ourselves.

        `model` is `OCR_MODEL`, `precision` is `OCR_PRECISION`.

        An engine of somebody's own may change at any time: its version is good for this process only.
        """
        if not self.is_known:
            return f"{self.target} {_THIS_PROCESS}"
        parts = [self.name, __version__, *(f"{name} {found}" for name in self.needs if (found := _release(name)))]
        if self.weights and (folder := self.weights_here(model)) is not None:
            for file in sorted(folder.glob("*.safetensors")):
                facts = file.stat()
                parts.append(f"{file} {facts.st_size} {facts.st_mtime_ns}")
        if self.name == EMBEDDED:
            parts.append(choose_precision(precision))
        if self.is_remote:  # what serves under no name today may be something else tomorrow
            parts += [self.asks, model or _THIS_PROCESS]
        return ", ".join(parts)


_releases: dict[str, tuple[str, str]] = {}
"""The folder of the metadata of a package, and the release that was read there, by the package."""


def _release(package: str) -> str:
    """The version of a package; empty where it is not installed.

    Every request asks, and reading it takes a millisecond: it is read again when its folder, which carries the version
    in its name, has gone.
    """
    folder, release = _releases.get(package, ("", ""))
    if not os.path.isdir(folder):
        from importlib.metadata import PackageNotFoundError, distribution  # 20 ms, which no child needs

        try:
            found = distribution(package)
        except PackageNotFoundError:
            return ""
        release = found.version
        _releases[package] = str(found.locate_file(f"{package}-{release}.dist-info")), release
    return release


_OF_LINES: Final = frozenset({"document", "ocr", "free", "find"})
"""The modes of an engine that reads lines of text and understands neither pictures nor questions."""


def _of_vision(name: str, title: str, model: VisionModel, *others: VisionModel) -> EngineSpec:
    """The engine of vision-language models, for the model that it reads with where `OCR_MODEL` names no other.

    Args:
        name: of the engine.
        title: its name for people; empty: `name`.
        model: the model that is fetched.
        others: models with the same modes and needs, which it reads with where they are here and `model` is not.
    """
    weights, *other_weights = [repository for row in (model, *others) for repository in row.repositories]
    return EngineSpec(
        name,
        "deepseek_ocr_mcp.engines.deepseek.engine:DeepSeekEngine",
        model.modes,
        title=title,
        gpu_mb=model.gpu_mb,
        opens=True,
        batch_pages=8,
        shared_pages=32,
        needs=("torch", "transformers", "safetensors"),
        extra="gpu",
        weights=weights,
        other_weights=tuple(other_weights),
        # The driver talks to its daemons over sockets, and torch compiles with programs.
        rights=Rights(sockets=True, programs=True),
    )


KNOWN: Final[dict[str, EngineSpec]] = {
    spec.name: spec
    for spec in (
        _of_vision("deepseek", "DeepSeek-OCR", model_named("DeepSeek-OCR-2"), model_named("DeepSeek-OCR")),
        _of_vision("vlm", "", model_named("LightOnOCR-3")),
        EngineSpec(
            "rapidocr",
            "deepseek_ocr_mcp.engines.rapidocr.engine:RapidOcrEngine",
            _OF_LINES,
            title="RapidOCR",
            needs=("rapidocr", "onnxruntime"),
            gives_lines=True,
            rights=Rights(programs=True),  # Tesseract reads what its models cannot
        ),
        EngineSpec(
            "tesseract",
            "deepseek_ocr_mcp.engines.tesseract.engine:TesseractEngine",
            _OF_LINES,
            title="Tesseract",
            gives_lines=True,
            rights=Rights(programs=True),
        ),
        EngineSpec("openai", "", frozenset(MODES), title="OpenAI", needs=("openai",), extra="remote"),
    )
}

EMBEDDED: Final = "rapidocr"
PREFERRED: Final = "deepseek"


class Card(Protocol):
    """The part of a `models.Gpu` that the choice looks at."""

    memory_total_mb: int


def choose_engine(
    name: str,
    *,
    model: str = "",
    gpu: str = "auto",
    cards: Callable[[], Sequence[Card]] = list,
    trouble: Callable[[EngineSpec], str] = lambda _: "",
) -> tuple[EngineSpec, str]:
    """The engine that `OCR_ENGINE` names, and a sentence that says why.

    Args:
        name: `OCR_ENGINE`.
        model: `OCR_MODEL`.
        gpu: `OCR_GPU`.
        cards: asked, for `auto` only, which cards there are; room is looked for at each load.
        trouble: asked, for `auto` only, why none of them can be used, as a sentence; empty: one can.

    Raises:
        BadRequest: nothing is known by that name.
    """
    if name == "auto":
        preferred = KNOWN[PREFERRED]
        if not (obstacle := _missing_part(preferred, gpu)):
            preferred = preferred.for_model(model)
            obstacle = _obstacle(preferred, model, cards) or trouble(preferred).removesuffix(".")
        if obstacle:
            return KNOWN[EMBEDDED], f"OCR_ENGINE is auto: the embedded engine, because {obstacle}."
        return preferred, _reason("OCR_ENGINE is auto: a GPU, torch and the weights are here.", preferred)
    if name in KNOWN:
        spec = KNOWN[name].for_model(model)
        return spec, _reason(f"OCR_ENGINE={name}.", spec)
    module, _, cls = name.partition(":")
    if module and cls.isidentifier() and all(part.isidentifier() for part in module.split(".")):
        return EngineSpec(cls, name, frozenset(MODES)), f"OCR_ENGINE={name}."
    raise BadRequest(
        f"OCR_ENGINE={name!r} names no engine.",
        remedy=f"Set it to auto, {', '.join(sorted(KNOWN))}, or package.module:Class of your own.",
    )


@dataclass(slots=True)
class _LargeCard:
    memory_total_mb: int = 1 << 30


def cpu_engine(name: str, *, model: str = "", gpu: str = "auto") -> EngineSpec | None:
    """The engine that `choose_engine` chooses, if it is a worker without a GPU; None otherwise.

    Asks no driver and raises nothing, so that a worker can be started before anything else is known.

    Args:
        name: `OCR_ENGINE`.
        model: `OCR_MODEL`.
        gpu: `OCR_GPU`.
    """
    try:
        engine, _ = choose_engine(name, model=model, gpu=gpu, cards=lambda: [_LargeCard()])
    except BadRequest:
        return None
    return None if engine.gpu_mb or engine.is_remote else engine


def weights_to_fetch(name: str, model: str) -> str:
    """The hub id of the weights that the settings ask for; the default model's where they ask for none.

    Args:
        name: `OCR_ENGINE`.
        model: `OCR_MODEL`; a folder cannot be fetched, and for endpoints it is their name for a model.
    """
    from .hub import HUB_ID

    named = KNOWN.get(name)
    spec = named if named is not None and named.weights else KNOWN[PREFERRED]
    return model if HUB_ID.fullmatch(model) and (named is None or named is spec) else spec.weights


def fetch_weights(model: str, *, to: str | None = None, on_progress: Callable[[int, int], None] | None = None) -> Path:
    """Fetch what is missing of a model's weights; see `hub.download`.

    Args:
        model: a hub id.
        to: the folder to put them in; None: the hub's cache.
        on_progress: called with bytes done and bytes in all.
    """
    from .hub import download

    return download(model, to=to, on_progress=on_progress)


def missing_packages(spec: EngineSpec) -> list[str]:
    """The modules that this engine needs and that are not installed. Imports none of them."""
    return [name for name in spec.needs if find_spec(name) is None]


def _reason(reason: str, spec: EngineSpec) -> str:
    return f"{reason} {spec.about_weights}".rstrip()


def _missing_part(spec: EngineSpec, gpu: str) -> str:
    """Why this GPU engine cannot be used here, by the cheap questions: they are asked at every start."""
    if gpu.lower() == "cpu":
        return "OCR_GPU=cpu"
    if missing := missing_packages(spec):
        return f"{' and '.join(missing)} are not installed (this installs them: {extra_command(spec.extra)})"
    return ""


def _obstacle(spec: EngineSpec, model: str, cards: Callable[[], Sequence[Card]]) -> str:
    """Why this GPU engine cannot be used here, where all packages are; the cheap questions first."""
    if spec.weights_here(model) is None:
        return f"the weights of {model or spec.weights} are not here (deepseek-ocr-mcp download fetches them)"
    found = cards()
    if not found:
        return "no NVIDIA GPU was found"
    if all(card.memory_total_mb < spec.gpu_mb for card in found):
        return f"no GPU has the {spec.gpu_mb} MiB that {spec.name} needs"
    return ""
