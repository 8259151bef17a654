"""Makes DeepSeek-OCR checkpoints of 0.3 MB with random weights, v1 and v2, in under a second.

They have the real files, token names and key layouts, so that the real conversion runs; what they read is
nonsense in ASCII that ends soon, and always the same nonsense for the same page and prompt.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BOS = "<\uff5cbegin\u2581of\u2581sentence\uff5c>"
EOS = "<\uff5cend\u2581of\u2581sentence\uff5c>"
PAD = "<\uff5c\u2581pad\u2581\uff5c>"
TAGS = [
    "<image>", "<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<|grounding|>", "<td>", "</td>", "<tr>", "</tr>",
]  # fmt: skip

VOCABULARY = 272
END_SCALE = {"v1": 2.0, "v2": 2.4}  # makes the end token likely enough: a page has some 50 tokens
SHORT = 3.0  # makes it likelier: for tests to which the length of a text means nothing
SAM = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "output_channels": 16,
    "mlp_dim": 32,
    "downsample_channels": [16, 32],
    "global_attn_indexes": [],  # a layer that looks at the whole page takes a second for each
}
CLIP = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
QWEN = {**CLIP, "num_key_value_heads": 1, "vocab_size": 8}
LANGUAGE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "max_position_embeddings": 8192,
    "n_group": 1,
    "topk_group": 1,
    "topk_method": "greedy",
}


def make_v1(folder: Path, *, seed: int = 0, original: bool = True, end_scale: float = END_SCALE["v1"]) -> Path:
    """A v1 checkpoint: with `original` config.json as deepseek-ai publishes it, else as transformers saves it.

    The keys are in the original layout both times.
    """
    import torch
    from transformers import UnlimitedOcrConfig, UnlimitedOcrForConditionalGeneration

    tags = write_tokenizer(folder)
    vision = {"sam_config": SAM, "encoder_config": CLIP}
    config = UnlimitedOcrConfig(
        text_config={**LANGUAGE, "layer_types": ["full_attention"] * 2},
        vision_config=vision,
        image_token_id=tags["<image>"],
    )
    torch.manual_seed(seed)
    _save(UnlimitedOcrForConditionalGeneration(config), folder, end_scale)
    if original:
        _write(
            folder / "config.json",
            {
                "architectures": ["DeepseekOCRForCausalLM"],
                "auto_map": {"AutoModel": "modeling_deepseekocr.DeepseekOCRForCausalLM"},
                "model_type": "deepseek_vl_v2",
                "language_config": {
                    **LANGUAGE,
                    "architectures": ["DeepseekV2ForCausalLM"],
                    "first_k_dense_replace": 1,
                    "torch_dtype": "bfloat16",
                    "kv_lora_rank": None,
                },
                "vision_config": vision,
            },
        )
    return folder


def make_v2(folder: Path, *, seed: int = 0, original: bool = False) -> Path:
    """A v2 checkpoint: as deepseek-community publishes it, or with `original` as deepseek-ai does."""
    import torch
    from transformers import DeepseekOcr2Config, DeepseekOcr2ForConditionalGeneration

    tags = write_tokenizer(folder)
    vision = {"sam_config": SAM, "encoder_config": QWEN}
    config = DeepseekOcr2Config(
        text_config={**LANGUAGE, "mlp_layer_types": ["dense", "sparse"]},
        vision_config=vision,
        image_token_id=tags["<image>"],
    )
    torch.manual_seed(seed)
    _save(DeepseekOcr2ForConditionalGeneration(config), folder, END_SCALE["v2"])
    if original:
        _write(
            folder / "config.json",
            {
                "architectures": ["DeepseekOCR2ForCausalLM"],
                "auto_map": {"AutoModel": "modeling_deepseekocr2.DeepseekOCR2ForCausalLM"},
                "model_type": "deepseek_vl_v2",
                "language_config": {**LANGUAGE, "first_k_dense_replace": 1},
                "vision_config": vision,
            },
        )
    return folder


def write_tokenizer(folder: Path) -> dict[str, int]:
    """A byte-level tokenizer without merges, and the ids of the tags."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {BOS: 0, EOS: 1, PAD: 2}
    for char in _bytes():
        vocabulary[char] = len(vocabulary)
    added = [BOS, EOS, PAD, *TAGS]
    for tag in TAGS:
        vocabulary[tag] = len(vocabulary)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    _write(
        folder / "tokenizer.json",
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": vocabulary[token], "content": token, **plain} for token in added],
            "normalizer": None,
            "pre_tokenizer": byte_level,
            "post_processor": None,
            "decoder": byte_level,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "vocab": vocabulary,
                "merges": [],
            },
        },
    )
    _write(folder / "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizerFast"})
    return {tag: vocabulary[tag] for tag in TAGS}


def _bytes() -> list[str]:
    """The 256 characters that byte-level tokenizers write for bytes (GPT-2's `bytes_to_unicode`)."""
    shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = iter(range(256, 512))
    return [chr(byte) if byte in shown else chr(next(hidden)) for byte in range(256)]


def _save(model: Any, folder: Path, end_scale: float) -> None:
    """With weights large enough that each page and each prompt gets an answer of its own."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "rel_pos" not in name:
                parameter.normal_(0, 0.5 if "embed" in name else 1.5 / parameter.shape[-1] ** 0.5)
            elif "view_separator" in name or "image_newline" in name:
                parameter.normal_()
        said = [
            number
            for char, number in zip(_bytes(), range(3, 259), strict=True)
            if char == "\u010a" or " " < char < "\x7f"
        ]
        silent = [number for number in range(VOCABULARY) if number not in said]
        model.lm_head.weight[silent] = 0
        model.lm_head.weight[1].normal_(0, end_scale / model.lm_head.in_features**0.5)
    model.save_pretrained(folder)


def _write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
