"""The vision-language models that are read here: one row for each, and the way to find the row of a checkpoint.

Each runs in a class of the installed transformers, over the same parking and the same decoding. Another model is one
row, where transformers has its class and its publisher names the prompts. Both processes read this table: the parent
needs modes, memory and hub ids, the child needs the rest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from ..modes import MODES

__all__ = [
    "MAX_NEW_TOKENS",
    "MODEL_REMARKS",
    "TYPICAL_TOKENS",
    "VISION_MODELS",
    "MarkupKind",
    "ViewKind",
    "VisionModel",
    "model_named",
    "model_of_checkpoint",
    "model_of_name",
    "remarks_of_endpoint",
]

MAX_NEW_TOKENS: Final = 8192
"""Tokens of the answer to one page, at most: the limit in DeepSeek-OCR's own code."""
TYPICAL_TOKENS: Final = 1500
"""Tokens of the answer to a usual page. Only progress depends on it."""

ViewKind = Literal["v1", "v2", "unlimited", "native"]
"""How a page is cut: as one of DeepSeek-OCR's family, or by the image processor of transformers."""

MarkupKind = Literal["deepseek", "unlimited", "grounding", "plain"]
"""What the model writes around its text; see `markup` and `grounding`."""


@dataclass(frozen=True, slots=True)
class VisionModel:
    """One row."""

    name: str
    """The name that answers give it."""
    repositories: tuple[str, ...]
    """Hub ids; the first is fetched where none is named."""
    config_name: str
    """A part of `model_type`, or of a name in `architectures` or `auto_map`, in its config.json; without signs."""
    model_class: str
    """The class of transformers. It is named here and not imported: an import takes a second."""
    prompts: Mapping[str, str]
    """Prompts by mode; a mode without one is refused. `{term}` and `{prompt}` are filled. Empty: the picture alone."""
    gpu_mb: int
    """MiB on a card, to load and to read one page: weights, the CUDA context, and the most that a page needs."""
    looking_mb: int
    """MiB of the vision part for a page, at the resolution that needs most. Too little costs a second attempt."""
    licence: str
    """The licence of the weights, as their publisher says."""
    source: str
    """The place where the prompts and the sampling are published."""
    views: ViewKind = "native"
    markup: MarkupKind = "plain"
    image_processor: str = ""
    """The class of transformers that cuts a page; for `native`."""
    edge: int = 0
    """The longer side in pixels of the largest picture that it takes; 0: the area that the checkpoint itself names."""
    frames: int = 1
    """Pictures that the image processor counts for one, in the area that it is asked for: GLM's takes two of a film."""
    chat: Mapping[str, bool] = field(default_factory=dict)
    """Arguments of the checkpoint's chat template, beside the messages; a template that knows them not ignores them."""
    temperature: float = 0.0
    """0: the likeliest token. More: tokens are drawn, from a seed that is the same for every page."""
    top_p: float = 1.0
    """The share of the likeliest tokens that are drawn from."""
    ngram: tuple[int, int] = (0, 0)
    """Tokens of a sequence that may not come again, and of the text that is searched for it; 0: no such ban."""
    remarks: Mapping[str, str] = field(default_factory=dict)
    """A sentence for the caller by mode, where the answer is less than the mode promises."""

    @property
    def modes(self) -> frozenset[str]:
        """Modes that it can do."""
        return frozenset(self.prompts)


_DEEPSEEK_PROMPTS: Final = {mode.name: mode.prompt for mode in MODES.values()}
_OF_DEEPSEEK_2: Final = frozenset({"document", "free"})

VISION_MODELS: Final[tuple[VisionModel, ...]] = (
    VisionModel(
        "DeepSeek-OCR-2",
        ("deepseek-community/DeepSeek-OCR-2", "deepseek-ai/DeepSeek-OCR-2"),
        "deepseekocr2",
        "DeepseekOcr2ForConditionalGeneration",
        _DEEPSEEK_PROMPTS,
        gpu_mb=8832,
        looking_mb=2048,
        licence="Apache-2.0",
        source="README of github.com/deepseek-ai/DeepSeek-OCR-2, which names the prompts of document and free only",
        views="v2",
        markup="deepseek",
        ngram=(30, 90),
        remarks={
            mode: f"the publisher of DeepSeek-OCR-2 names no prompt for mode {mode}; it was asked with that of "
            "DeepSeek-OCR, so something may be missing or wrong."
            for mode in MODES
            if mode not in _OF_DEEPSEEK_2
        },
    ),
    VisionModel(
        "DeepSeek-OCR",
        ("deepseek-ai/DeepSeek-OCR",),
        "deepseekocr",
        "UnlimitedOcrForConditionalGeneration",  # the same arithmetic, with full attention in every layer
        _DEEPSEEK_PROMPTS,
        gpu_mb=8832,  # both are counted in test_deepseek_memory.py
        looking_mb=2048,
        licence="MIT",
        source="README of github.com/deepseek-ai/DeepSeek-OCR; n-gram ban: vLLM's NGramPerReqLogitsProcessor",
        views="v1",
        markup="deepseek",
        ngram=(30, 90),
    ),
    VisionModel(
        "Unlimited-OCR",
        ("baidu/Unlimited-OCR",),
        "unlimitedocr",
        "UnlimitedOcrForConditionalGeneration",
        {"document": "document parsing."},
        gpu_mb=11520,  # with 32 tiles; both counted as for DeepSeek-OCR
        looking_mb=4480,
        licence="MIT",
        source="README of github.com/baidu/Unlimited-OCR",
        views="unlimited",
        markup="unlimited",
        ngram=(35, 128),
    ),
    VisionModel(
        "LightOnOCR-3",
        ("lightonai/LightOnOCR-3-1B",),
        "lightonocr",
        "LightOnOcrForConditionalGeneration",
        {"document": "grounding"},
        gpu_mb=3904,  # with the longest answer; both counted in test_deepseek_memory.py
        looking_mb=736,
        licence="Apache-2.0",
        source="README of github.com/lightonai/LightOnOCR",
        markup="grounding",
        image_processor="PixtralImageProcessorPil",
        edge=1540,
        chat={"enable_thinking": False},
        temperature=0.1,
    ),
    VisionModel(
        "LightOnOCR",
        ("lightonai/LightOnOCR-2-1B", "lightonai/LightOnOCR-1B-1025"),
        "lightonocr",
        "LightOnOcrForConditionalGeneration",
        {"document": ""},
        gpu_mb=3904,
        looking_mb=736,
        licence="Apache-2.0",
        source="README of github.com/lightonai/LightOnOCR; its file models.py",
        image_processor="PixtralImageProcessorPil",
        edge=1540,
        temperature=0.2,
        top_p=0.9,
    ),
    VisionModel(
        "PaddleOCR-VL",
        ("PaddlePaddle/PaddleOCR-VL-1.6", "PaddlePaddle/PaddleOCR-VL-1.5", "PaddlePaddle/PaddleOCR-VL"),
        "paddleocrvl",
        "PaddleOCRVLForConditionalGeneration",
        {"document": "OCR:", "free": "OCR:", "figure": "Chart Recognition:"},
        gpu_mb=3072,  # with a head of its own; both counted in test_deepseek_memory.py
        looking_mb=608,
        licence="Apache-2.0",
        source="transformers' page of PaddleOCR-VL; recipes.vllm.ai/PaddlePaddle/PaddleOCR-VL-1.5",
        image_processor="PaddleOCRVLImageProcessorPil",
        remarks={
            "document": "PaddleOCR-VL reads a whole page as text: headings and tables have no marks here, because its "
            "publisher finds them with a second model, which this server does not run."
        },
    ),
    VisionModel(
        "GLM-OCR",
        ("zai-org/GLM-OCR",),
        "glmocr",
        "GlmOcrForConditionalGeneration",
        {"document": "Text Recognition:", "free": "Text Recognition:"},
        gpu_mb=3840,  # with the longest answer; both counted in test_deepseek_memory.py
        looking_mb=896,
        licence="MIT",
        source="README of zai-org/GLM-OCR: document parsing with Text Recognition:",
        image_processor="Glm46VImageProcessorPil",
        edge=2048,
        frames=2,
        remarks={
            "document": "GLM-OCR reads a whole page as text: the scores of its publisher are those of a second model "
            "that finds the parts of a page first, which this server does not run."
        },
    ),
)


_ASKED_AS_DEEPSEEK: Final = {
    row.name: f"{row.name} was asked with the prompt of DeepSeek-OCR, which its publisher does not name; something "
    "may be missing or wrong."
    for row in VISION_MODELS
    if row.markup != "deepseek"
}
MODEL_REMARKS: Final = frozenset(
    {remark for row in VISION_MODELS for remark in row.remarks.values()} | set(_ASKED_AS_DEEPSEEK.values())
)
"""The sentences that hold for a model, whatever the page: a second reading is no better."""


def model_named(name: str) -> VisionModel:
    """The row of this name."""
    return next(row for row in VISION_MODELS if row.name == name)


def remarks_of_endpoint(names: str) -> Mapping[str, str]:
    """By mode: a sentence where DeepSeek-OCR's prompt is not the one that the publisher of the served model names.

    Args:
        names: the name that the model is asked by, and the name behind it.
    """
    letters = _letters(names)
    fitting = [row for row in VISION_MODELS if re.search(rf"{row.config_name}(?!\d)", letters)]
    row = max(fitting, key=lambda row: len(row.config_name), default=None)
    if row is None:
        return {}
    return row.remarks if row.markup == "deepseek" else dict.fromkeys(MODES, _ASKED_AS_DEEPSEEK[row.name])


def model_of_name(model: str) -> VisionModel | None:
    """The row of a model by its hub id, or by the config.json of a folder; None where it is not in the table.

    Args:
        model: `OCR_MODEL`.
    """
    for row in VISION_MODELS:
        if model.casefold() in (name.casefold() for name in row.repositories):
            return row
    try:
        raw = json.loads((Path(model).expanduser() / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return model_of_checkpoint(raw, model) if isinstance(raw, dict) else None


def model_of_checkpoint(raw: Mapping[str, Any], path: str) -> VisionModel | None:
    """The row of a checkpoint.

    Two generations of one model have the same config.json. Then the path tells them apart, which has the model's name
    in the hub's cache; where it does not tell, the last row that fits is taken, which asks for least.

    Args:
        raw: its config.json.
        path: of its folder.
    """
    found = [raw.get("model_type"), *_listed(raw.get("architectures"))]
    if isinstance(raw.get("auto_map"), dict):
        found += raw["auto_map"].values()
    names = " ".join(_letters(str(name)) for name in found)
    if "unlimitedocr" in names and _layer_types(raw) == {"full_attention"}:
        return model_named("DeepSeek-OCR")  # as transformers saves it
    fitting = [row for row in VISION_MODELS if row.config_name in names]
    longest = max((len(row.config_name) for row in fitting), default=0)
    fitting = [row for row in fitting if len(row.config_name) == longest]
    where = _letters(path)
    named = [row for row in fitting if any(_series(name) in where for name in row.repositories)]
    fitting = named or fitting
    return fitting[-1] if fitting else None


def _series(repository: str) -> str:
    """The name of a model without its size."""
    return _letters(repository.partition("/")[2]).removesuffix("1b")


def _layer_types(raw: Mapping[str, Any]) -> set[str]:
    text = raw.get("text_config")
    layers = text.get("layer_types") if isinstance(text, dict) else None
    return {str(layer) for layer in _listed(layers)}


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _letters(name: str) -> str:
    """Letters and digits of a name, in lower case."""
    return "".join(char for char in name.casefold() if char.isalnum())
