"""Opens a checkpoint of a model in `vision_models`; every weight comes from its files or there is no model.

Models are told apart by config.json. All run in classes that transformers brings: no Python code from the checkpoint is
run, no hub is asked, nothing prompts on stdin, pickled weights are not read. DeepSeek-OCR has no class of its own;
`UnlimitedOcrForConditionalGeneration` with full attention in every layer computes the same, which the parity kit in
tests/data holds. Unlimited-OCR has full attention in its configuration, too: the window of its layers is made by the
masks that `slots` gives.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from tokenizers import Tokenizer
from torch import nn

from ...errors import EngineUnavailable
from ..vision_models import VISION_MODELS, ViewKind, VisionModel, model_of_checkpoint
from .shortage import first_line

__all__ = ["Checkpoint", "read_checkpoint"]

NAMED_KEYS: Final = 4  # of the keys that do not fit, in an error
IMAGE: Final = "<image>"
BEGIN: Final = "<\uff5cbegin\u2581of\u2581sentence\uff5c>"
END: Final = "<\uff5cend\u2581of\u2581sentence\uff5c>"
PAD: Final = "<\uff5c\u2581pad\u2581\uff5c>"
OUR_TOKENS: Final = (BEGIN, END, PAD, IMAGE, "<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<|grounding|>")
CONFIG_NOISE: Final = ("architectures", "auto_map", "model_type", "torch_dtype", "transformers_version")

DOWNLOAD: Final = "Fetch the model again with: deepseek-ocr-mcp download"
NAMES: Final = ", ".join(row.repositories[0] for row in VISION_MODELS)
WHICH: Final = f"Set OCR_MODEL to one of {NAMES}, or to a folder with one of them."

V2_ENCODER: Final[dict[str, Any]] = {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
}
"""Fixed in v2's original code (deepencoderv2/qwen2_d2e.py, `CustomQwen2Decoder`); its config.json is silent."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint as its folder describes it. No weight is in memory."""

    row: VisionModel
    """The facts of the model."""
    path: str
    weight_files: tuple[str, ...]
    """Paths of the safetensors files."""
    tokenizer: Any
    """A `transformers.PreTrainedTokenizerFast`."""
    config: Any
    """The `transformers.PreTrainedConfig` of `model_class`."""

    end_tokens: frozenset[int] = frozenset()
    """Ids that end a text."""

    @property
    def kind(self) -> ViewKind:
        """How its pages are cut."""
        return self.row.views

    @property
    def model_class(self) -> Any:
        """The class of transformers whose arithmetic this checkpoint was trained for."""
        return getattr(transformers, self.row.model_class)

    def empty_model(self) -> nn.Module:
        """The model in eval mode on the meta device: shapes and names, no memory."""
        with torch.device("meta"):
            model: nn.Module = self.model_class(_copied(self.config))
        return _frozen(model)

    def load_model(self, dtype: torch.dtype) -> nn.Module:
        """The model in host memory, in eval mode, with native key names.

        Raises:
            EngineUnavailable: a key is missing, unknown or has another shape, or a file cannot be read.
        """
        try:
            with _quiet():
                model, info = self.model_class.from_pretrained(
                    self.path,
                    config=_copied(self.config),
                    dtype=dtype,
                    use_safetensors=True,
                    local_files_only=True,
                    ignore_mismatched_sizes=True,  # they are named below
                    output_loading_info=True,
                )
        except (OSError, RuntimeError, ValueError, KeyError) as exc:
            raise self._unusable(f"cannot be loaded: {first_line(exc)}") from exc
        except Exception as exc:
            if type(exc).__module__.startswith("safetensors"):
                raise self._unusable(f"is damaged: {first_line(exc)}") from exc
            raise
        faults = [
            *_named("missing", info["missing_keys"]),
            *_named("unknown", info["unexpected_keys"]),
            *_named("of another shape", (entry[0] for entry in info["mismatched_keys"])),
            *_named("not converted", info.get("error_msgs", ())),
        ]
        if faults:
            raise self._unusable(f"does not fit {self.model_class.__name__}: {'; '.join(faults)}")
        loaded: nn.Module = model
        return _frozen(loaded)

    def rebuild_buffers(self, model: nn.Module) -> None:
        """Give every buffer that is in no file its value, in host memory.

        They are left on the meta device when `empty_model()` takes its weights by
        `load_state_dict(assign=True)`: the position ids of CLIP and the rotary frequencies, which stay
        float32 whatever the model's dtype.
        """
        with torch.device("cpu"):
            module: Any
            for module in model.modules():
                if "inv_freq" in module._buffers:
                    fresh = type(module)(config=module.config)
                    for name, buffer in fresh._buffers.items():
                        module._buffers[name] = buffer
                positions = module._buffers.get("position_ids")
                if positions is not None:
                    module._buffers["position_ids"] = torch.arange(positions.shape[-1]).expand((1, -1))
        left = [name for name, buffer in model.named_buffers() if buffer.is_meta]
        if left:
            raise self._unusable(f"leaves {_some(left)} without a value in this release of transformers")

    def _unusable(self, what: str) -> EngineUnavailable:
        return EngineUnavailable(f"The checkpoint in {self.path} {what}.", remedy=DOWNLOAD)


def read_checkpoint(path: str) -> Checkpoint:
    """Look at the folder `path`.

    Raises:
        EngineUnavailable: it is no checkpoint of a model in the table.
    """
    folder = Path(path)
    raw = _read_json(folder / "config.json")
    row = model_of_checkpoint(raw, path)
    if row is None or (row.views in ("v1", "v2") and not {"language_config", "text_config"} & raw.keys()):
        raise EngineUnavailable(
            f"{folder / 'config.json'} describes a model of type {raw.get('model_type')!r}, which is not read here.",
            remedy=WHICH,
        )
    try:
        config = _CONFIGS[row.views](raw, row)
    except Exception as exc:  # transformers checks with classes of its own, of several packages
        raise EngineUnavailable(
            f"{folder / 'config.json'} is not understood: {first_line(exc)}.", remedy=WHICH
        ) from exc
    weights = _weight_files(folder)
    if row.views == "native":
        tokenizer = _native_tokenizer(folder)
        return Checkpoint(row, str(folder), weights, tokenizer, config, _end_tokens(folder, raw))
    tokenizer = _read_tokenizer(folder, config.text_config.vocab_size)
    config.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE)
    return Checkpoint(row, str(folder), weights, tokenizer, config, frozenset({tokenizer.eos_token_id}))


def _config_v1(raw: dict[str, Any], row: VisionModel) -> Any:
    config_class = transformers.UnlimitedOcrConfig
    if "language_config" in raw:
        # The sizes of the vision towers are constants of the original code; `sam_config` is there in tests only.
        vision = raw.get("vision_config") or {}
        language = _without_noise(raw["language_config"])
        if row.views == "unlimited" and raw.get("sliding_window"):
            language["sliding_window"] = raw["sliding_window"]
        config = config_class(
            text_config=language,
            vision_config=vision if "sam_config" in vision else None,
        )
    else:
        config = config_class.from_dict(raw)
    text = config.text_config
    text.layer_types = ["full_attention"] * text.num_hidden_layers
    return config


def _config_v2(raw: dict[str, Any], row: VisionModel) -> Any:
    config_class = transformers.DeepseekOcr2Config
    if "language_config" not in raw:
        return config_class.from_dict(raw)
    language = _without_noise(raw["language_config"])
    dense = language.pop("first_k_dense_replace", 1)
    layers = language.setdefault("num_hidden_layers", 12)
    language.setdefault("mlp_layer_types", ["dense" if layer < dense else "sparse" for layer in range(layers)])
    for name, value in {"bos_token_id": 0, "eos_token_id": 1, "n_group": 1, "topk_group": 1}.items():
        language.setdefault(name, value)
    vision = raw.get("vision_config") or {}
    sizes = vision if "encoder_config" in vision else {"encoder_config": V2_ENCODER}
    return config_class(text_config=language, vision_config=sizes)


def _config_native(raw: dict[str, Any], row: VisionModel) -> Any:
    """The class is the one of the row, whatever `model_type` says: LightOnOCR is published as a `mistral3`."""
    config_class = getattr(transformers, row.model_class).config_class
    return config_class.from_dict(_without_noise(raw))


_CONFIGS: Final[dict[ViewKind, Callable[[dict[str, Any], VisionModel], Any]]] = {
    "v1": _config_v1,
    "v2": _config_v2,
    "unlimited": _config_v1,
    "native": _config_native,
}


def _without_noise(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in CONFIG_NOISE}


def _read_tokenizer(folder: Path, vocabulary: int) -> Any:
    """`PreTrainedTokenizerFast` whatever the checkpoint declares: `LlamaTokenizer` would eat spaces and newlines."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise EngineUnavailable(f"{file} is missing.", remedy=DOWNLOAD)
    try:
        rules = Tokenizer.from_file(str(file))
    except Exception as exc:  # the tokenizers package raises bare Exception
        raise EngineUnavailable(f"{file} cannot be read: {first_line(exc)}.", remedy=DOWNLOAD) from exc
    lost = [token for token in OUR_TOKENS if rules.token_to_id(token) is None]
    if lost:
        raise EngineUnavailable(f"{file} has no token {_some(lost)}.", remedy=WHICH)
    beyond = [token for token in OUR_TOKENS if (rules.token_to_id(token) or 0) >= vocabulary]
    if beyond:
        raise EngineUnavailable(
            f"{file} numbers {_some(beyond)} beyond the model's {vocabulary} tokens.", remedy=DOWNLOAD
        )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=rules, bos_token=BEGIN, eos_token=END, pad_token=PAD, clean_up_tokenization_spaces=False
    )


def _native_tokenizer(folder: Path) -> Any:
    """The tokenizer with its special tokens and the chat template, which are those of its files."""
    config = _read_json(folder / "tokenizer_config.json")
    special = {}
    for name in ("bos_token", "eos_token", "pad_token", "cls_token", "unk_token", "sep_token"):
        value = config.get(name)
        value = value.get("content") if isinstance(value, dict) else value
        if isinstance(value, str):
            special[name] = value
    template = folder / "chat_template.jinja"
    try:
        rules = Tokenizer.from_file(str(folder / "tokenizer.json"))
        chat = template.read_text(encoding="utf-8") if template.is_file() else config.get("chat_template")
    except Exception as exc:  # the tokenizers package raises bare Exception
        raise EngineUnavailable(
            f"{folder / 'tokenizer.json'} cannot be read: {first_line(exc)}.", remedy=DOWNLOAD
        ) from exc
    if not isinstance(chat, str):
        raise EngineUnavailable(f"{folder} has no chat template.", remedy=DOWNLOAD)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=rules, chat_template=chat, clean_up_tokenization_spaces=False, **special
    )


def _end_tokens(folder: Path, raw: dict[str, Any]) -> frozenset[int]:
    """Ids that end a text, by generation_config.json, or else by the model's own configuration."""
    file = folder / "generation_config.json"
    text = raw.get("text_config")
    for config in (_read_json(file) if file.is_file() else {}, raw, text if isinstance(text, dict) else {}):
        value = config.get("eos_token_id")
        ids = value if isinstance(value, list) else [value]
        if ids and all(isinstance(each, int) for each in ids):
            return frozenset(ids)
    raise EngineUnavailable(f"{folder} does not say which token ends a text.", remedy=DOWNLOAD)


def _weight_files(folder: Path) -> tuple[str, ...]:
    index = folder / "model.safetensors.index.json"
    listed = _read_json(index).get("weight_map", {}).values() if index.is_file() else ["model.safetensors"]
    names = sorted(set(listed))
    lost = [name for name in names if not (folder / name).is_file()]
    if lost or not names:
        raise EngineUnavailable(f"The weights in {folder} are not complete: no {_some(lost)}.", remedy=DOWNLOAD)
    return tuple(str(folder / name) for name in names)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise EngineUnavailable(f"{file} is missing: this is no checkpoint.", remedy=DOWNLOAD) from exc
    except (OSError, ValueError) as exc:
        raise EngineUnavailable(f"{file} cannot be read: {first_line(exc)}.", remedy=DOWNLOAD) from exc
    if not isinstance(found, dict):
        raise EngineUnavailable(f"{file} holds no object.", remedy=DOWNLOAD)
    return found


def _copied(config: Any) -> Any:
    """Models write into their configuration."""
    return deepcopy(config)


def _frozen(model: nn.Module) -> nn.Module:
    return model.eval().requires_grad_(False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own report of keys, which our error replaces, and without its progress bars."""
    logging: Any = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _named(what: str, keys: Iterable[str]) -> list[str]:
    found = sorted(keys)
    return [f"{len(found)} {what} ({_some(found)})"] if found else []


def _some(names: list[str]) -> str:
    more = len(names) - NAMED_KEYS
    return ", ".join(names[:NAMED_KEYS]) + (f" and {more} more" if more > 0 else "")
