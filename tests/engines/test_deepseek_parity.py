"""The whole path of DeepSeek-OCR v1 against values recorded from the original code; see tests/data's README.

Prompt, tiles, towers, language model and greedy tokens, in float32. The long case runs always, and the views and the
prompts of all cases; the rest with DEEPSEEK_PARITY=all. The checkpoint is 0.9 GB, made in a folder that is removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from calls import Caller

from deepseek_ocr_mcp.engines.base import PageImage, ReadOptions

pytest.importorskip("torch")
pytest.importorskip("transformers")

pytestmark = pytest.mark.slow

KIT = Path(__file__).parents[1] / "data" / "deepseek_ocr_v1_parity"
GOLDEN: dict[str, Any] = json.loads((KIT / "golden_public.json").read_text())
MODES = {"markdown": "document", "free": "free"}
TOLERANCE = GOLDEN["tolerance"]["max_abs_dlogit_fp32"]
EVERYTHING = os.environ.get("DEEPSEEK_PARITY") == "all"


def cases() -> list[Any]:
    skipped = pytest.mark.skipif(not EVERYTHING, reason="one of many: DEEPSEEK_PARITY=all runs it")
    found = []
    for case in [*GOLDEN["cases"], *GOLDEN["long"]]:
        name = (case["image"], case["mode"], case["prompt"])
        always = case in GOLDEN["long"]
        found.append(pytest.param(case, id="-".join(name), marks=() if always else skipped))
    return found


class Bench:
    """The synthetic checkpoint, loaded, and the drawn pages as the worker gets them."""

    def __init__(self, folder: Path) -> None:
        import torch
        from PIL import Image, ImageOps

        from deepseek_ocr_mcp.engines.deepseek.checkpoint import read_checkpoint
        from deepseek_ocr_mcp.engines.deepseek.generate import ModelReader

        made = runpy.run_path(str(KIT / "make_checkpoint.py"))["write"](str(folder / "model"))
        assert made[0] == GOLDEN["checkpoint"]["weights_sha256"]
        drawn = runpy.run_path(str(KIT / "make_images.py"))["write"](str(folder / "images"))
        self.pages: dict[str, PageImage] = {}
        for name, facts in GOLDEN["images"].items():
            assert drawn[name]["rgb_sha256"] == facts["rgb_sha256"], "another Pillow draws other pages"
            with Image.open(folder / "images" / facts["file"]) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB")
            path = folder / f"{name}.rgb"
            path.write_bytes(upright.tobytes())
            self.pages[name] = PageImage(str(path), *upright.size)
        self.checkpoint = read_checkpoint(str(folder / "model"))
        self.model: Any = self.checkpoint.load_model(torch.float32)
        self.reader = ModelReader(self.checkpoint, self.model)

    def read(self, cases: list[dict[str, Any]]) -> list[tuple[tuple[int, ...], list[float]]]:
        """The tokens of each case, read together, and its first logits at the recorded places."""
        seen: list[Any] = []
        hook = self.model.lm_head.register_forward_hook(lambda _m, _i, logits: seen.append(logits[:, VOCABULARY]))
        try:
            written = self.reader.read(
                [self.pages[case["image"]] for case in cases],
                ReadOptions(MODES[cases[0]["prompt"]], resolution=cases[0]["mode"]),
                Caller(),
                max_new_tokens=len(cases[0]["tokens"]),
                free_running=True,
            )
        finally:
            hook.remove()
        # Prompts enter one after the other, each with one row; then come steps.
        return [(page.tokens, logits[0].tolist()) for page, logits in zip(written, seen, strict=False)]


VOCABULARY: list[int] = GOLDEN["vocab_ids"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("parity")
    yield Bench(folder)
    shutil.rmtree(folder)


def compare(case: dict[str, Any], tokens: tuple[int, ...], logits: list[float]) -> float:
    """The largest difference of a logit, which must be within the tolerance; tokens must be equal."""
    apart = max(abs(ours - theirs) for ours, theirs in zip(logits, case["logits"], strict=True))
    print(f"{case['image']} {case['mode']} {case['prompt']}: max |dlogit| {apart:.2e}")
    assert apart <= TOLERANCE
    assert tokens[: case["n_robust"]] == tuple(case["tokens"][: case["n_robust"]])
    return apart


def sha256(pixels: Any) -> str | None:
    return None if pixels is None else hashlib.sha256(pixels.tobytes()).hexdigest()


@pytest.mark.parametrize("case", cases())
def test_a_page_is_read_as_the_original_read_it(bench: Bench, case: dict[str, Any]) -> None:
    ((tokens, logits),) = bench.read([case])
    compare(case, tokens, logits)


@pytest.mark.skipif(not EVERYTHING, reason="minutes of arithmetic: DEEPSEEK_PARITY=all runs it")
def test_pages_of_several_sizes_are_read_together_as_each_was_alone(bench: Bench) -> None:
    names = ("page", "card", "banner")
    together = [
        case
        for case in GOLDEN["cases"]
        if (case["mode"], case["prompt"]) == ("gundam", "free") and case["image"] in names
    ]
    assert len({case["n_ids"] for case in together}) == len(names)
    for case, (tokens, logits) in zip(together, bench.read(together), strict=True):
        compare(case, tokens, logits)


def test_views_and_prompts_are_those_of_the_original(bench: Bench) -> None:
    import numpy as np

    from deepseek_ocr_mcp.engines.deepseek.preprocess import cut_views, read_page
    from deepseek_ocr_mcp.engines.deepseek.prompts import encode_prompt, prompt_for

    for case in [*GOLDEN["cases"], *GOLDEN["long"]]:
        page = bench.pages[case["image"]]
        views = cut_views(read_page(page.path, page.width, page.height), "v1", case["mode"])
        ids = encode_prompt(
            bench.checkpoint.tokenizer, prompt_for(ReadOptions(MODES[case["prompt"]])), views.placeholders
        )
        assert hashlib.sha256(np.asarray(ids, "<i4").tobytes()).hexdigest() == case["ids_sha256"]
        assert (views.placeholders, list(views.grid)) == (case["n_image"], case["grid"])
        assert (sha256(views.whole), sha256(views.tiles)) == (case["global_sha256"], case["tiles_sha256"])
    for case in GOLDEN["prompt_only"]:
        prompt = case["text"].removeprefix("<image>\n")
        ids = encode_prompt(bench.checkpoint.tokenizer, prompt, case["n_image"])
        assert (ids[:1], ids[1 + case["n_image"] :]) == (case["head_ids"], case["tail_ids"])
        assert len(ids) == case["n_ids"]
