"""Makes checkpoints of the models in `vision_models` that are not DeepSeek-OCR: random weights, real classes and keys.

Each has all files that are read, in the form that its publisher has them; the tokenizer is that of `tiny_deepseek`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiny_deepseek import CLIP, EOS, LANGUAGE, SAM, VOCABULARY, write_tokenizer

TEMPLATE = (
    "<|grounding|>{% for message in messages %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<|ref|><image><|/ref|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endfor %}<|det|>"
)
QWEN = {
    "model_type": "qwen3", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": VOCABULARY,
    "max_position_embeddings": 4096, "tie_word_embeddings": True,
}  # fmt: skip
PIXTRAL = {
    "model_type": "pixtral", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
    "num_attention_heads": 2, "head_dim": 16, "image_size": 1540, "patch_size": 14,
}  # fmt: skip
ERNIE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "vocab_size": VOCABULARY, "max_position_embeddings": 4096,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0, "mrope_section": [2, 3, 3]},
}  # fmt: skip
SIGLIP = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 112, "patch_size": 14, "spatial_merge_size": 2,
}  # fmt: skip
COGVIT = {
    "hidden_size": 32, "intermediate_size": 48, "depth": 1, "num_heads": 2, "image_size": 112, "patch_size": 14,
    "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 32,
}  # fmt: skip
AREA = {"size": {"shortest_edge": 28 * 28, "longest_edge": 300 * 300}}


def make(name: str, folder: Path) -> Path:
    """A checkpoint of LightOnOCR-3, PaddleOCR-VL, GLM-OCR or Unlimited-OCR, in a folder of that name."""
    import torch
    import transformers

    folder = folder / name
    tags = write_tokenizer(folder)
    image = {"image_token_id": tags["<image>"]}
    torch.manual_seed(5)
    if name == "LightOnOCR-3-1B":
        config = transformers.LightOnOcrConfig(text_config=QWEN, vision_config=PIXTRAL, **image)
        _save(transformers.LightOnOcrForConditionalGeneration(config), folder, model_type="mistral3")
        _write(folder / "preprocessor_config.json", {"patch_size": 14, "size": {"longest_edge": 1540}})
    elif name == "PaddleOCR-VL":
        config = transformers.PaddleOCRVLConfig(text_config=ERNIE, vision_config=SIGLIP, **image)
        _save(transformers.PaddleOCRVLForConditionalGeneration(config), folder)
        _write(folder / "preprocessor_config.json", {**AREA, "patch_size": 14, "merge_size": 2})
    elif name == "GLM-OCR":
        text = {**ERNIE, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}}
        config = transformers.GlmOcrConfig(text_config=text, vision_config=COGVIT, **image)
        _save(transformers.GlmOcrForConditionalGeneration(config), folder)
        _write(folder / "preprocessor_config.json", {**AREA, "patch_size": 14, "merge_size": 2})
    else:
        text = {**LANGUAGE, "sliding_window": 6}
        config = transformers.UnlimitedOcrConfig(
            text_config=text, vision_config={"sam_config": SAM, "encoder_config": CLIP}, **image
        )
        _save(transformers.UnlimitedOcrForConditionalGeneration(config), folder)
    return folder


def _save(model: Any, folder: Path, **changes: str) -> None:
    """With weights large enough that each page gets a text of its own; it ends seldom."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "rel_pos" not in name:
                parameter.normal_(0, 0.08 if "embed" in name else 1.5 / parameter.shape[-1] ** 0.5)
    model.generation_config.eos_token_id = [1, 2]
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    _write(folder / "config.json", config | changes)
    _write(folder / "tokenizer_config.json", {"eos_token": EOS, "chat_template": TEMPLATE})


def _write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content), encoding="utf-8")
