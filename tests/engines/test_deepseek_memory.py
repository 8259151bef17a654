"""What a reading holds on a card, counted on torch's meta device at the models' real size; the budget covers it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from live_bytes import LiveBytes  # noqa: E402

from deepseek_ocr_mcp.engines import KNOWN  # noqa: E402
from deepseek_ocr_mcp.engines.deepseek import generate  # noqa: E402
from deepseek_ocr_mcp.engines.deepseek.checkpoint import _config_v1, _config_v2  # noqa: E402
from deepseek_ocr_mcp.engines.deepseek.experts import use_recordable_experts  # noqa: E402
from deepseek_ocr_mcp.engines.deepseek.slots import GROW, Prompt, Slots  # noqa: E402
from deepseek_ocr_mcp.engines.vision_models import VISION_MODELS, VisionModel  # noqa: E402

LANGUAGE = {
    "hidden_size": 1280,
    "intermediate_size": 6848,
    "num_hidden_layers": 12,
    "num_attention_heads": 10,
    "num_key_value_heads": 10,
    "vocab_size": 129280,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "num_experts_per_tok": 6,
    "moe_intermediate_size": 896,
    "first_k_dense_replace": 1,
    "max_position_embeddings": 8192,
    "n_group": 1,
    "topk_group": 1,
    "topk_method": "greedy",
}
MIB = 1 << 20
LONGEST_PROMPT = 1300  # DeepSeekPrompts.longest, which needs a tokenizer

pytestmark = pytest.mark.xdist_group("engines/test_deepseek_memory.py")  # they share the models of `full_size`


@pytest.fixture(scope="module", autouse=True)
def frozen() -> Iterator[None]:
    """The count collects garbage: not among all that was imported."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@lru_cache(maxsize=2)
def full_size(kind: str) -> Any:
    """The model in bfloat16 on the meta device."""
    import transformers

    raw = {"language_config": LANGUAGE}
    with torch.device("meta"):
        model = (
            transformers.UnlimitedOcrForConditionalGeneration(_config_v1(raw, VISION_MODELS[0]))
            if kind == "v1"
            else transformers.DeepseekOcr2ForConditionalGeneration(_config_v2(raw, VISION_MODELS[1]))
        )
    model = model.to(torch.bfloat16).eval()
    use_recordable_experts(model)
    return model


def looking(kind: str, side: int, tiles: int = 0, grid: tuple[int, int] = (1, 1)) -> int:
    """The most bytes that live while a page is looked at."""
    tile = {"v1": 640, "v2": 768}[kind]
    with torch.device("meta"):
        views: dict[str, Any] = {"pixel_values": torch.empty(1, 3, side, side, dtype=torch.bfloat16)}
        if tiles:
            views["pixel_values_local"] = torch.empty(tiles, 3, tile, tile, dtype=torch.bfloat16)
            views["num_local_patches"] = [tiles]
            if kind == "v1":
                views["patches_grid"] = [list(grid)]
    model = full_size(kind)  # built before the count, not in it
    with torch.inference_mode(), LiveBytes() as live:
        model.model.get_image_features(**views, return_dict=True)
    return live.most


def prompt(tokens: int) -> tuple[int, int]:
    """The most bytes that live while a prompt is taken in, and those that stay: the key-value cache."""
    model = full_size("v1")  # built before the count, not in it
    with torch.inference_mode(), LiveBytes() as live:
        slots = Slots(model, 1)
        slots.enter(Prompt(torch.empty(tokens, 1280, dtype=torch.bfloat16, device="meta")))
    length = -(-(tokens + 1) // GROW["cpu"]) * GROW["cpu"]  # what the cache has room for on every kind but cuda
    return live.most, 61_440 * length


@pytest.mark.parametrize(
    ("kind", "side", "tiles", "grid"), [("v1", 1024, 9, (3, 3)), ("v2", 1024, 6, (2, 3))], ids=["v1", "v2"]
)
def test_the_need_of_a_card_covers_the_page_that_needs_most_at_the_default_resolution(
    kind: str, side: int, tiles: int, grid: tuple[int, int]
) -> None:
    weights = sum(parameter.nbytes for parameter in full_size(kind).parameters())
    page = looking(kind, side, tiles, grid)
    need = KNOWN["deepseek"].gpu_mb * MIB
    assert weights + generate.CONTEXT_BYTES + page <= need
    assert need <= 1.1 * (weights + generate.CONTEXT_BYTES + page)  # and no card is refused for nothing


def test_a_prompt_of_one_page_and_its_longest_answer_need_less_than_looking_at_it() -> None:
    most, cache = prompt(LONGEST_PROMPT)
    longest_answer = 61_440 * (LONGEST_PROMPT + generate.MAX_NEW_TOKENS)
    assert max(most, longest_answer) <= looking("v1", 1024, 9, (3, 3))
    budget = generate.PROMPT_ELEMENTS * 1280 * 2 * LONGEST_PROMPT
    assert 0.9 * budget <= most - cache <= budget


def test_looking_at_a_page_while_others_are_written_is_budgeted() -> None:
    assert looking("v1", 1280) <= VISION_MODELS[0].looking_mb * MIB <= 1.1 * looking("v1", 1280)


def test_a_decode_step_of_sixteen_rows_needs_next_to_nothing_beside_the_cache() -> None:
    model = full_size("v1")
    with torch.inference_mode(), LiveBytes() as live:
        slots = Slots(model, 16)
        slots.enter(Prompt(torch.empty(300, 1280, dtype=torch.bfloat16, device="meta")))
        live.most = before = live.now
        slots._step(16)
    assert live.most - before < 32 * MIB < generate.WORKING_BYTES


# The published config.json files, where their sizes are not those of transformers' classes.
PUBLISHED: dict[str, dict[str, Any]] = {
    "LightOnOCR-3": {},
    "LightOnOCR": {},
    "PaddleOCR-VL": {"text_config": {}, "vision_config": {}},
    "GLM-OCR": {
        "text_config": {
            "head_dim": 128,
            "hidden_size": 1536,
            "intermediate_size": 4608,
            "num_hidden_layers": 16,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "vocab_size": 59392,
        },
        "vision_config": {},
    },
}
HEADS_OF_THEIR_OWN = ("PaddleOCR-VL", "GLM-OCR")
SIDES = {"LightOnOCR-3": 1540, "LightOnOCR": 1540, "PaddleOCR-VL": 1680, "GLM-OCR": 2044}
"""Pixels of the largest square, by the published preprocessor_config.json or the row of the table; a multiple of 28."""
PATCH = 14


def largest_picture(row: VisionModel, frames: int) -> dict[str, Any]:
    """The arguments of `get_image_features` for the largest picture."""
    side, patches = SIDES[row.name], SIDES[row.name] // PATCH
    if row.name.startswith("LightOnOCR"):
        shape: tuple[int, ...] = (1, 3, side, side)
        facts: dict[str, Any] = {"image_sizes": [(side, side)]}
    else:
        one = (3, PATCH, PATCH) if row.name == "PaddleOCR-VL" else (3 * frames * PATCH**2,)
        shape, facts = (patches**2, *one), {"image_grid_thw": torch.tensor([[1, patches, patches]])}
    return {"pixel_values": torch.empty(shape, dtype=torch.bfloat16, device="meta"), **facts}


@pytest.mark.filterwarnings("ignore:.*mrope_section.*")
@pytest.mark.parametrize("row", [row for row in VISION_MODELS if row.views == "native"], ids=lambda row: row.name)
def test_the_need_of_a_model_of_transformers_covers_its_largest_page_and_its_longest_answer(row: VisionModel) -> None:
    import transformers

    model_class = getattr(transformers, row.model_class)
    config = model_class.config_class(**PUBLISHED[row.name])
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = row.name not in HEADS_OF_THEIR_OWN
    with torch.device("meta"):
        model = model_class(config)
    model = model.to(torch.bfloat16).eval()
    weights = sum(parameter.nbytes for parameter in model.parameters())
    with torch.inference_mode(), LiveBytes() as live:
        model.model.get_image_features(**largest_picture(row, row.frames), return_dict=True)
    assert live.most <= row.looking_mb * MIB <= 1.1 * live.most
    text = config.text_config
    per_token = 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim * 2
    longest_answer = per_token * ((SIDES[row.name] // (2 * PATCH)) ** 2 + 100 + generate.MAX_NEW_TOKENS)
    need = weights + generate.CONTEXT_BYTES + max(live.most, longest_answer)
    assert need <= row.gpu_mb * MIB <= 1.1 * need


def test_two_copies_of_the_bias_of_the_first_tower_are_what_a_page_without_tiles_needs() -> None:
    bias = 12 * 4096 * 4096 * 2  # heads, patches of 16 pixels in 1024 x 1024, bfloat16
    assert 2 * bias <= looking("v1", 1024) <= 2.2 * bias


def test_the_need_of_unlimited_ocr_covers_a_page_with_all_of_its_tiles() -> None:
    [row] = [row for row in VISION_MODELS if row.name == "Unlimited-OCR"]
    page = looking("v1", 1024, 32, (4, 8))  # its classes and sizes are those of v1
    weights = sum(parameter.nbytes for parameter in full_size("v1").parameters())
    assert page <= row.looking_mb * MIB <= 1.1 * page
    need = weights + generate.CONTEXT_BYTES + page
    assert need <= row.gpu_mb * MIB <= 1.1 * need
