"""The models of `vision_models`: their tiny random checkpoints are read as transformers' own `generate()` writes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import tiny_vision
from calls import Caller
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deepseek_ocr_mcp.engines import KNOWN, choose_engine
from deepseek_ocr_mcp.engines.base import PageImage, ReadOptions
from deepseek_ocr_mcp.engines.grounding import parse_page
from deepseek_ocr_mcp.engines.vision_models import VISION_MODELS, model_named, model_of_checkpoint, model_of_name
from deepseek_ocr_mcp.errors import EngineUnavailable, UnsupportedMode
from deepseek_ocr_mcp.modes import MODES

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from deepseek_ocr_mcp.engines.deepseek import engine as engine_module  # noqa: E402
from deepseek_ocr_mcp.engines.deepseek.checkpoint import Checkpoint, read_checkpoint  # noqa: E402
from deepseek_ocr_mcp.engines.deepseek.engine import MODEL_PATH, DeepSeekEngine  # noqa: E402
from deepseek_ocr_mcp.engines.deepseek.generate import ModelReader  # noqa: E402
from deepseek_ocr_mcp.engines.deepseek.preprocess import read_page  # noqa: E402
from deepseek_ocr_mcp.engines.deepseek.prompts import (  # noqa: E402
    NativePrompts,
    coloured,
    encode_prompt,
    levels_of,
    normalised,
)
from deepseek_ocr_mcp.engines.deepseek.slots import Sampling  # noqa: E402
from deepseek_ocr_mcp.engines.deepseek.weights import ParkedModel  # noqa: E402

NATIVE = ("LightOnOCR-3-1B", "PaddleOCR-VL", "GLM-OCR")
DOCUMENT = ReadOptions("document", resolution="tiny")
TOKENS = 24
pytestmark = [pytest.mark.filterwarnings("ignore:.*mrope_section.*"), pytest.mark.usefixtures("quiet_torch")]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The checkpoint of a name, made once."""
    folder = tmp_path_factory.mktemp("vision")
    return lru_cache(lambda name: read_checkpoint(str(tiny_vision.make(name, folder))))


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[PageImage]:
    """Three pages, no two of a size."""
    folder, found = tmp_path_factory.mktemp("pages"), []
    for number, (width, height) in enumerate([(150, 90), (64, 200), (120, 120)]):
        file = folder / f"{number}.rgb"
        file.write_bytes(Random(number).randbytes(width * height * 3))
        found.append(PageImage(str(file), width, height))
    return found


def opened(checkpoint: Checkpoint) -> ParkedModel:
    """From the fused file, as a worker does it."""
    ParkedModel.open(checkpoint, torch.float32)
    model = ParkedModel.open(checkpoint, torch.float32)
    assert (model.host, model.notes) == ("file", ())
    return model


def generated(model: Any, ends: Any, **inputs: Any) -> tuple[int, ...]:
    """The tokens of transformers' own loop."""
    with torch.inference_mode():
        tokens = model.generate(
            **inputs, do_sample=False, max_new_tokens=TOKENS, eos_token_id=sorted(ends), pad_token_id=2
        )
    new = tokens[0, inputs["input_ids"].shape[1] :].tolist()
    return tuple(new[: next((place for place, token in enumerate(new) if token in ends), len(new))])


@pytest.mark.parametrize("name", NATIVE)
def test_a_page_is_read_as_transformers_writes_it_token_for_token(
    name: str, checkpoints: Any, pages: list[PageImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = checkpoints(name)
    checkpoint = replace(checkpoint, row=replace(checkpoint.row, temperature=0.0))
    reference = checkpoint.load_model(torch.float32)
    parked = opened(checkpoint)
    reader = ModelReader(checkpoint, parked.model)
    pictures = getattr(transformers, checkpoint.row.image_processor).from_pretrained(checkpoint.path)
    area = {"longest_edge": 512} if name == NATIVE[0] else {"shortest_edge": 28 * 28, "longest_edge": 300 * 300}
    expected = []
    for page in pages:
        image = read_page(page.path, page.width, page.height)
        inputs = dict(pictures(image, size=area, return_tensors="pt"))
        if "image_grid_thw" in inputs:
            placeholders = int(inputs["image_grid_thw"].prod()) // 4
        else:
            height, width = (int(length) for length in inputs["image_sizes"][0])
            placeholders = (height // 28) * (width // 28)
        ids, _ = reader._prompts.encode(DOCUMENT, placeholders)  # type: ignore[attr-defined]
        inputs["input_ids"] = torch.tensor([ids])
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        if "image_grid_thw" in inputs:
            inputs["mm_token_type_ids"] = (inputs["input_ids"] == checkpoint.config.image_token_id).int()
        expected.append(generated(reference, checkpoint.end_tokens, **inputs))
    assert len(set(expected)) == len(pages)
    parked.place("cpu")
    monkeypatch.setattr(ModelReader, "_room", lambda *_: 2)  # the third page takes the slot of the first that ends
    for order in ([0, 1, 2], [2, 1, 0]):
        read = reader.read([pages[number] for number in order], DOCUMENT, Caller(), max_new_tokens=TOKENS)
        assert [written.tokens for written in read] == [expected[number] for number in order]


def test_unlimited_ocr_looks_back_at_its_prompt_and_a_window_of_its_text(
    checkpoints: Any, pages: list[PageImage]
) -> None:
    """The window is 6 tokens here. Transformers keeps them in a cache of its own kind; here a mask makes the window."""
    checkpoint = checkpoints("Unlimited-OCR")
    config = transformers.UnlimitedOcrConfig.from_pretrained(checkpoint.path)
    assert set(config.text_config.layer_types) == {"reference_sliding_attention"}
    original = transformers.UnlimitedOcrForConditionalGeneration.from_pretrained(
        checkpoint.path, config=config, dtype=torch.float32
    ).eval()
    reader = ModelReader(checkpoint, opened(checkpoint).model)
    expected = []
    for page in pages:
        views = reader._prompts.prepare(page, "tiny")
        ids = encode_prompt(checkpoint.tokenizer, "document parsing.", views.placeholders, "")
        assert checkpoint.tokenizer.decode(ids).endswith("<image>document parsing.")
        pixels = normalised(views.whole[None], "unlimited", original.lm_head.weight)
        inputs = {"input_ids": torch.tensor([ids]), "pixel_values": pixels}
        expected.append(generated(original, {1}, attention_mask=torch.ones_like(inputs["input_ids"]), **inputs))
    read = reader.read(pages, DOCUMENT, Caller(), max_new_tokens=TOKENS)
    assert [written.tokens for written in read] == expected
    reader._prompts.window = 0
    assert [w.tokens for w in reader.read(pages, DOCUMENT, Caller(), max_new_tokens=TOKENS)] != expected


def test_a_head_that_is_tied_stays_tied_in_the_file_and_on_every_device(checkpoints: Any) -> None:
    checkpoint = checkpoints("LightOnOCR-3-1B")
    parked = opened(checkpoint)
    header = next(Path(checkpoint.path).rglob("native-float32.safetensors")).read_bytes()
    length = int.from_bytes(header[:8], "little")
    names = json.loads(header[8 : 8 + length])
    tied = json.loads(names["__metadata__"]["tied"])
    assert {*tied, *tied.values()} == {"lm_head.weight", "model.language_model.embed_tokens.weight"}
    model: Any = parked.model
    for move in (lambda: None, lambda: parked.place("cpu"), parked.park):
        move()
        assert model.lm_head.weight is model.model.language_model.embed_tokens.weight
    reference = checkpoint.load_model(torch.float32)
    buffers = dict(reference.named_buffers())
    assert buffers
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, buffers[name]), name


def test_tokens_that_are_drawn_depend_on_the_page_alone(checkpoints: Any, pages: list[PageImage]) -> None:
    checkpoint = checkpoints("LightOnOCR-3-1B")
    hot = replace(checkpoint, row=replace(checkpoint.row, temperature=1.0, top_p=0.9))
    model = opened(checkpoint).model

    def read(checkpoint: Checkpoint, chosen: list[PageImage]) -> list[tuple[int, ...]]:
        found = ModelReader(checkpoint, model).read(chosen, DOCUMENT, Caller(), max_new_tokens=TOKENS)
        return [written.tokens for written in found]

    together = read(hot, pages)
    assert read(hot, pages[::-1]) == together[::-1]
    assert read(hot, pages[1:2]) == together[1:2]
    cold = replace(checkpoint, row=replace(checkpoint.row, temperature=0.0))
    assert read(cold, pages) != together


def test_the_drawn_tokens_have_their_shares() -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
    random = torch.Generator().manual_seed(1)
    counts = [0] * 4
    for _ in range(2000):
        counts[int(Sampling(1.0, 0.9).draw(logits[None], [random])[0])] += 1
    assert counts[3] == 0, "it is beyond the nine tenths that are drawn from"
    assert abs(counts[0] / 2000 - 0.5 / 0.95) < 0.05
    assert abs(counts[2] / 2000 - 0.15 / 0.95) < 0.04
    assert Sampling(0.01, 0.1).draw(logits[None], [random]).tolist() == [0]


def test_rows_that_are_drawn_together_are_drawn_as_each_alone() -> None:
    sampling, logits = Sampling(0.8, 0.9), torch.randn(4, 50, generator=torch.Generator().manual_seed(2))
    alone = [sampling.draw(row[None], [torch.Generator().manual_seed(seed)]) for seed, row in enumerate(logits)]
    randoms = [torch.Generator().manual_seed(seed) for seed in range(4)]
    assert torch.equal(sampling.draw(logits, [*randoms[:3], None])[:3], torch.cat(alone)[:3])  # the last row is free
    assert len(set(torch.cat(alone).tolist())) > 1


THINKING = "{% if enable_thinking is not defined or enable_thinking %}<|grounding|>{% endif %}" + tiny_vision.TEMPLATE


@pytest.mark.parametrize(("name", "thinks"), [("LightOnOCR-3-1B", False), ("GLM-OCR", True)])
def test_the_chat_template_gets_the_arguments_that_the_publisher_names_and_no_others(
    checkpoints: Any, name: str, thinks: bool
) -> None:
    checkpoint = checkpoints(name)
    plain, _ = NativePrompts(checkpoint).encode(DOCUMENT, 3)
    tokenizer = checkpoint.tokenizer
    before, tokenizer.chat_template = tokenizer.chat_template, THINKING
    try:
        ids, start = NativePrompts(checkpoint).encode(DOCUMENT, 3)
    finally:
        tokenizer.chat_template = before
    assert ids == ([tokenizer.convert_tokens_to_ids("<|grounding|>")] if thinks else []) + plain
    assert ids[start : start + 3] == [checkpoint.config.image_token_id] * 3


@pytest.mark.parametrize("name", ["LightOnOCR-3-1B", "PaddleOCR-VL", "GLM-OCR"])
def test_pixels_travel_as_bytes_and_are_on_the_card_what_the_image_processor_makes_of_them(
    name: str, checkpoints: Any, tmp_path: Path
) -> None:
    chance = np.random.default_rng(3)
    picture = chance.integers(0, 256, (333, 517, 3), dtype=np.uint8)
    (tmp_path / "noise.rgb").write_bytes(picture.tobytes())
    prompts = NativePrompts(checkpoints(name))
    prepared = prompts.prepare(PageImage(str(tmp_path / "noise.rgb"), 517, 333), "auto")["pixel_values"]
    assert prepared.dtype == torch.uint8
    expected = prompts._pictures(Image.fromarray(picture), return_tensors="pt")["pixel_values"]
    levels = levels_of(prompts._pictures)
    assert torch.equal(coloured(prepared, levels), expected)
    assert torch.equal(coloured(prepared, levels.bfloat16()), expected.bfloat16())


def test_a_picture_has_as_many_pixels_as_the_row_and_the_checkpoint_allow(checkpoints: Any, tmp_path: Path) -> None:
    """GLM's image processor counts a picture twice, as two of a film."""
    (tmp_path / "large.rgb").write_bytes(bytes(700 * 900 * 3))
    page = PageImage(str(tmp_path / "large.rgb"), 700, 900)
    for name, frames in (("PaddleOCR-VL", 1), ("GLM-OCR", 2)):
        checkpoint = checkpoints(name)
        prompts = NativePrompts(checkpoint)
        area = int(dict(prompts._pictures.size)["longest_edge"])
        for resolution, most in (("auto", 300 * 300 // frames), ("tiny", min(512**2, 300 * 300 // frames))):
            grid = prompts.prepare(page, resolution)["image_grid_thw"]
            pixels = int(grid.prod()) * 14**2
            assert area == 300 * 300
            assert 0.75 * most < pixels <= most
            assert int(grid.prod()) // 4 <= prompts.longest
        roomy = NativePrompts(checkpoint)
        roomy._pictures.size = {"shortest_edge": 28 * 28, "longest_edge": frames * 5_000_000}
        grid = roomy.prepare(page, "tiny")["image_grid_thw"]
        assert 0.85 * 512**2 < int(grid.prod()) * 14**2 <= 512**2


def in_published_form(name: str, folder: Path) -> dict[str, Any]:
    """Change a tiny checkpoint to the form in which its publisher has it. Returns its weights.

    GLM-OCR's file has a further layer, for guessing tokens ahead. PaddleOCR-VL's config.json is flat and says that
    the head is not tied; its file has parts of SigLIP that are not used.
    """
    from safetensors.torch import load_file, save_file

    weights: dict[str, Any] = load_file(folder / "model.safetensors")
    if name == "GLM-OCR":
        weights["model.language_model.layers.16.eh_proj.weight"] = torch.zeros(3, 3)
    else:
        config = json.loads((folder / "config.json").read_text())
        text = {key: value for key, value in config["text_config"].items() if key != "rope_parameters"}
        config |= text | {
            "model_type": "paddleocr_vl",
            "rope_scaling": {"mrope_section": [2, 3, 3], "rope_type": "default", "type": "default"},
            "rope_theta": 500000,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "vision_config": config["vision_config"] | {"model_type": "paddleocr_vl"},
        }
        del config["text_config"]
        (folder / "config.json").write_text(json.dumps(config))
        weights["lm_head.weight"] = torch.randn(text["vocab_size"], text["hidden_size"])
        weights["visual.vision_model.head.probe"] = torch.zeros(1, 1, 32)
        weights["visual.vision_model.embeddings.packing_position_embedding.weight"] = torch.zeros(4, 32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return weights


@pytest.mark.parametrize("name", ["GLM-OCR", "PaddleOCR-VL"])
def test_the_form_in_which_it_is_published_is_read_and_a_head_of_its_own_stays_so(name: str, tmp_path: Path) -> None:
    folder = tiny_vision.make(name, tmp_path)
    weights = in_published_form(name, folder)
    checkpoint = read_checkpoint(str(folder))
    model: Any = opened(checkpoint).model
    assert torch.equal(model.lm_head.weight, weights["lm_head.weight"])
    assert not torch.equal(model.lm_head.weight, model.model.language_model.embed_tokens.weight)
    reference = dict(checkpoint.load_model(torch.float32).named_parameters())
    found = dict(model.named_parameters())
    assert found.keys() == reference.keys()
    assert all(torch.equal(found[key], value) for key, value in reference.items())


# ---------------------------------------------------------------- the engine


def test_the_engine_reads_parks_and_reads_the_same_again_with_a_remark_on_what_is_less(
    checkpoints: Any, pages: list[PageImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = checkpoints("PaddleOCR-VL")
    monkeypatch.setenv(MODEL_PATH, checkpoint.path)
    monkeypatch.setattr(engine_module, "usable_cores", lambda: 1)
    engine = DeepSeekEngine()
    assert engine.load("cpu", Caller())["model"] == "PaddleOCR-VL (PaddleOCR-VL)"
    first = engine.read(pages[:1], DOCUMENT, Caller())
    assert "PaddleOCR-VL reads a whole page as text" in first[0].remark
    engine.offload()
    engine.restore("cpu")
    assert engine.read(pages[:1], DOCUMENT, Caller()) == first
    assert not engine.read(pages[:1], replace(DOCUMENT, mode="free"), Caller())[0].remark
    with pytest.raises(UnsupportedMode, match="names no prompt") as caught:
        engine.read(pages[:1], replace(DOCUMENT, mode="describe"), Caller())
    assert "document, figure, free" in caught.value.remedy


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tokenizer_config.json", "{}", "has no chat template"),
        ("tokenizer_config.json", '{"chat_template": "no picture"}', "has 0 places for a picture"),
        ("preprocessor_config.json", None, "no usable preprocessor_config.json"),
        ("generation_config.json", "{}", "does not say which token ends a text"),
        ("tokenizer.json", "{}", "cannot be read"),
    ],
)
def test_a_checkpoint_that_lacks_a_file_is_refused_in_words(
    tmp_path: Path, pages: list[PageImage], checkpoints: Any, name: str, text: str | None, message: str
) -> None:
    import shutil

    folder = tmp_path / "GLM-OCR"
    shutil.copytree(checkpoints("GLM-OCR").path, folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"].pop("eos_token_id", None)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / name).unlink()
    if text is not None:
        (folder / name).write_text(text)

    def read() -> None:
        checkpoint = read_checkpoint(str(folder))
        ModelReader(checkpoint, checkpoint.load_model(torch.float32)).read(pages[:1], DOCUMENT, Caller())

    with pytest.raises(EngineUnavailable, match=message):
        read()


# ---------------------------------------------------------------- the table


def test_every_row_names_a_class_of_the_installed_transformers_and_known_modes() -> None:
    for row in VISION_MODELS:
        assert hasattr(transformers, row.model_class), row.name
        assert (row.views == "native") == bool(row.image_processor)
        assert not row.image_processor or hasattr(transformers, row.image_processor)
        assert set(row.prompts) <= set(MODES)
        assert set(row.remarks) <= set(row.prompts)
        assert "document" in row.prompts, "it is the mode of a request that names none"
        assert model_of_name(row.repositories[0].upper()) is row
    assert set(model_named("DeepSeek-OCR-2").remarks) == set(MODES) - {"document", "free"}


@pytest.mark.parametrize(
    ("raw", "path", "name"),
    [
        ({"architectures": ["DeepseekOCRForCausalLM"], "model_type": "deepseek_vl_v2"}, "x", "DeepSeek-OCR"),
        ({"auto_map": {"AutoModel": "modeling_deepseekocr2.DeepseekOCR2ForCausalLM"}}, "x", "DeepSeek-OCR-2"),
        ({"model_type": "deepseek_ocr2"}, "x", "DeepSeek-OCR-2"),
        ({"model_type": "unlimited_ocr", "text_config": {"layer_types": ["full_attention"]}}, "x", "DeepSeek-OCR"),
        ({"architectures": ["UnlimitedOCRForCausalLM"]}, "x", "Unlimited-OCR"),
        ({"architectures": ["LightOnOCRForConditionalGeneration"], "model_type": "mistral3"},
         "/models--lightonai--LightOnOCR-3-1B/snapshots/0f", "LightOnOCR-3"),
        ({"model_type": "lighton_ocr"}, "/models/LightOnOCR-2-1B-bbox", "LightOnOCR"),
        ({"model_type": "lighton_ocr"}, "/models/of-mine", "LightOnOCR"),
        ({"model_type": "paddleocr_vl"}, "x", "PaddleOCR-VL"),
        ({"model_type": "glm_ocr"}, "x", "GLM-OCR"),
        ({"model_type": "llama"}, "DeepSeek-OCR", None),
        ({"model_type": 3, "architectures": "LightOnOCR", "auto_map": [], "text_config": []}, "x", None),
    ],
)  # fmt: skip
def test_a_checkpoint_is_known_by_its_config(raw: dict[str, Any], path: str, name: str | None) -> None:
    row = model_of_checkpoint(raw, path)
    assert (row.name if row else None) == name


def test_the_engine_has_the_modes_and_the_memory_of_the_model_that_is_named(checkpoints: Any) -> None:
    spec, _ = choose_engine("vlm")
    assert (spec.weights, spec.modes) == ("lightonai/LightOnOCR-3-1B", {"document"})
    assert spec.gpu_mb < 4096, "a card of 4 GB holds it"
    for name in ("vlm", "deepseek"):
        spec, _ = choose_engine(name, model="zai-org/GLM-OCR")
        assert spec.modes == {"document", "free"}
        assert spec.is_known
        assert spec.version("zai-org/GLM-OCR").startswith(name)
    folder, _ = choose_engine("vlm", model=checkpoints("PaddleOCR-VL").path)
    assert folder.modes == {"document", "free", "figure"}
    assert choose_engine("deepseek", model="somebody/else")[0] == KNOWN["deepseek"]


# ---------------------------------------------------------------- what a model writes

PAGE = PageImage("page.rgb", 2000, 1000)


def test_blocks_of_lightonocr_become_text_and_boxes_of_the_page() -> None:
    written = (
        "![title](100,50,900,100) # Report\n![text](100,120,480,900) The first\ncolumn ends in"
        "\n![text+](520,120,900,500) the second.\n![image](520,600,900,900) A tower.\n![page_number](490,950,510,970) 3"
    )
    page = parse_page("grounding", PAGE, written, "stop")
    assert page.text == "# Report\n\nThe first\ncolumn ends in the second.\n\n<!-- figure 1 -->\n\nA tower.\n\n3"
    assert [(block.label, block.box) for block in page.blocks] == [
        ("title", (200, 50, 1800, 100)),
        ("text", (200, 120, 960, 900)),
        ("text", (1040, 120, 1800, 500)),
        ("image", (1040, 600, 1800, 900)),
        ("page_number", (980, 950, 1020, 970)),
    ]
    assert page.blocks[1].text == "The first\ncolumn ends in"
    assert (page.raw, page.finish) == (written, "stop")


def test_blocks_of_unlimited_ocr_become_text_and_boxes_of_the_page() -> None:
    written = "<|det|>title [0, 0, 999, 100]<|/det|>Report\n<|det|>text [10, 200, 500, 999]<|/det|>Words\n<PAGE>\n"
    page = parse_page("unlimited", PAGE, written, "stop")
    assert page.text == "Report\n\nWords"
    assert [(block.label, block.text, block.box) for block in page.blocks] == [
        ("title", "Report", (0, 0, 2000, 101)),
        ("text", "Words", (20, 200, 1002, 1000)),
    ]


@pytest.mark.parametrize(
    "hostile",
    [
        "![text](__import__('os').system('id'),1,2,3) x",
        "![text](1,2,3) x",
        "![text](1,2,3,4,5) x",
        "![te xt](1,2,3,4) x",
        "![text](1e9,2,3,4) x",
        "![text](99999,2,3,4) x",
        "![text](-1,2,3,4) x",
        "![text](https://example.org/a.png) x",
    ],
)
def test_a_marker_of_another_form_is_text_and_no_picture_to_fetch(hostile: str) -> None:
    page = parse_page("grounding", PAGE, hostile, "stop")
    assert page.blocks == ()
    assert page.text == hostile.replace("!", "\\!", 1)
    assert parse_page("plain", PAGE, hostile, "stop").text == page.text
    assert parse_page("plain", PAGE, hostile, "stop", is_markdown=False).text == hostile


def test_no_picture_of_a_page_survives_in_the_text_of_a_block() -> None:
    page = parse_page("grounding", PAGE, "![text](0,0,9,9) see ![x](https://example.org/a.png)", "stop")
    assert page.text == page.blocks[0].text == "see \\![x](https://example.org/a.png)"


@settings(max_examples=60, deadline=None)
@given(st.text("![]()0123456789, \n+<|>/detxPAGE", max_size=200), st.sampled_from(["grounding", "unlimited", "plain"]))
def test_whatever_a_model_writes_the_boxes_are_on_the_page(written: str, kind: Any) -> None:
    page = parse_page(kind, PAGE, written, "stop")
    for block in page.blocks:
        x1, y1, x2, y2 = block.box
        assert 0 <= x1 < x2 <= PAGE.width
        assert 0 <= y1 < y2 <= PAGE.height
    assert not re.search(r"(?<!\\)!\[", page.text)


def test_the_work_grows_with_the_length_only() -> None:
    for piece in ("![", "![a](1,", "<|det|>", "<|det|>a [1, ", "\n \t", "![text](1,2,3,4)"):
        parse_page("grounding", PAGE, piece * 20_000, "stop")
        parse_page("unlimited", PAGE, piece * 20_000, "stop")
