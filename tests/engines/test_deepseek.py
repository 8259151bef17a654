"""DeepSeek-OCR from the folder on disk to text and blocks, on tiny random checkpoints of both models."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
import tiny_deepseek
from calls import Caller
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek_ocr_mcp.engines.base import PageImage, ReadOptions
from deepseek_ocr_mcp.engines.deepseek.preprocess import closest_grid, cut_views
from deepseek_ocr_mcp.engines.loops import LoopGuard
from deepseek_ocr_mcp.errors import Cancelled, EngineUnavailable, GpuBusy, GpuLost
from deepseek_ocr_mcp.install import extra_command
from deepseek_ocr_mcp.modes import MODES, RESOLUTIONS

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from deepseek_ocr_mcp.engines.deepseek import generate, slots  # noqa: E402
from deepseek_ocr_mcp.engines.deepseek.checkpoint import read_checkpoint  # noqa: E402
from deepseek_ocr_mcp.engines.deepseek.engine import MODEL_PATH, DeepSeekEngine  # noqa: E402
from deepseek_ocr_mcp.engines.deepseek.experts import use_recordable_experts  # noqa: E402
from deepseek_ocr_mcp.engines.deepseek.generate import ModelReader, Written  # noqa: E402
from deepseek_ocr_mcp.engines.deepseek.prompts import encode_prompt, normalised, prompt_for  # noqa: E402
from deepseek_ocr_mcp.engines.deepseek.slots import Slots  # noqa: E402

DATA = Path(__file__).parents[1] / "data"
DOCUMENT = ReadOptions("document", resolution="tiny")
FLOATS = torch.empty(0)

pytestmark = pytest.mark.usefixtures("quiet_torch")


class Listening(Caller):
    """A caller that hears everything and, after `patience` questions, has gone."""

    def __init__(self, patience: int = sys.maxsize) -> None:
        self.patience = patience
        self.asked = 0
        self.heard: list[tuple[float, str]] = []
        self.dropped: dict[int, int] = {}
        """Pages that nobody waits for, from that many questions on."""
        self.joining: dict[int, list[PageImage]] = {}
        """Pages that join, after so many questions for more."""
        self.rooms: list[int] = []
        self.ended: list[int] = []

    def progress(self, done: float, message: str = "", shares: Mapping[int, float] | None = None) -> None:
        self.heard.append((done, message))

    def raise_if_cancelled(self) -> None:
        self.asked += 1
        if self.asked > self.patience:
            raise Cancelled("No request waits for this page any more.", remedy="Send the request again.")

    def is_dropped(self, page: int) -> bool:
        return self.asked >= self.dropped.get(page, sys.maxsize)

    def more(self, room: int) -> list[PageImage]:
        self.rooms.append(room)
        return self.joining.pop(len(self.rooms), [])


@pytest.fixture(scope="module")
def v1_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_deepseek.make_v1(tmp_path_factory.mktemp("v1") / "tiny-v1")


@pytest.fixture(scope="module")
def v2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_deepseek.make_v2(tmp_path_factory.mktemp("v2") / "tiny-v2")


@pytest.fixture(params=["v1", "v2"])
def folder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(f"{request.param}_folder")
    return found


@lru_cache(maxsize=2)
def reader(folder: Path) -> ModelReader:
    """One for all tests: they leave the model as it was."""
    checkpoint = read_checkpoint(str(folder))
    return ModelReader(checkpoint, checkpoint.load_model(torch.float32))


SIZES = [(300, 200), (820, 1100), (500, 500), (900, 300), (32, 64)]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[PageImage]:
    """Five pages, no two of a size."""
    folder = tmp_path_factory.mktemp("pages")
    return [page(folder, number, *size) for number, size in enumerate(SIZES)]


@pytest.fixture(scope="module")
def texts_alone(pages: list[PageImage]) -> Callable[[Path], list[Written]]:
    """Each page read by itself by the model in a folder, once."""

    @lru_cache(maxsize=2)
    def read(folder: Path) -> list[Written]:
        return [read_tokens(reader(folder), [page])[0] for page in pages]

    return read


Alone = Callable[[Path], list[Written]]


def read_tokens(model: ModelReader, pages: list[PageImage]) -> list[Written]:
    """At most 60 tokens of each page: some have 300."""
    return model.read(pages, DOCUMENT, Listening(), max_new_tokens=60)


def page(folder: Path, number: int, width: int, height: int) -> PageImage:
    import numpy as np

    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 255, (height // 20 + 1, width // 20 + 1, 3), dtype=np.uint8)
    path = folder / f"page-{number}.rgb"
    path.write_bytes(coarse.repeat(20, 0).repeat(20, 1)[:height, :width].tobytes())
    return PageImage(str(path), width, height)


@contextmanager
def saying(reader: ModelReader, choose: Callable[[int, int], int]) -> Iterator[list[int]]:
    """The model wants token `choose(page, step)`, both counted from 0. Yields the number of pages at each step."""
    counts: list[int] = []
    steps: dict[Any, int] = {}
    enter, chosen = Slots.enter, Slots.chosen

    def numbered(self: Slots, prompt: Any) -> Any:
        slot = enter(self, prompt)
        steps[slot] = 0
        return slot

    def wanted(self: Slots) -> list[int]:
        counts.append(self.active)
        pages = list(steps)
        for number, slot in enumerate(pages):
            if slot in self._slots:
                self.logits[slot.row] = 0.1 * torch.arange(self.logits.shape[-1]) / self.logits.shape[-1]
                self.logits[slot.row, choose(number, steps[slot])] = 1
                steps[slot] += 1
        return chosen(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Slots, "enter", numbered)
        patch.setattr(Slots, "chosen", wanted)
        yield counts


# ---------------------------------------------------------------- what goes in


def test_v1_views_are_bit_equal_to_the_original_preprocessing() -> None:
    import numpy as np
    from PIL import Image

    golden = json.loads((DATA / "deepseek_ocr_v1_preprocess_golden.json").read_text())
    rng = np.random.default_rng(0)

    def bfloat16(pixels: Any) -> str:
        values = normalised(pixels, "v1", torch.empty(0, dtype=torch.bfloat16))
        return hashlib.sha256(values.view(torch.int16).numpy().tobytes()).hexdigest()

    for case in golden["cases"]:
        width, height = case["width"], case["height"]
        noise = rng.integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        image = Image.fromarray(noise).resize((width, height))
        assert hashlib.sha256(image.tobytes()).hexdigest() == case["image_rgb_sha256"]
        views = cut_views(image, "v1", case["mode"])
        assert views.grid == (case["grid_columns"], case["grid_rows"])
        assert bfloat16(views.whole) == case["global_view_bf16_sha256"]
        assert (views.tiles is None) == (case["tiles_shape"] is None)
        if views.tiles is not None:
            assert bfloat16(views.tiles) == case["tiles_bf16_sha256"]


@pytest.mark.parametrize(
    "size", [(1240, 1754), (640, 480), (768, 768), (769, 500), (1000, 2500), (1250, 1000), (2000, 9)]
)
def test_v2_views_are_those_of_the_native_processor(size: tuple[int, int]) -> None:
    import numpy as np
    from PIL import Image
    from transformers.models.deepseek_ocr2.image_processing_pil_deepseek_ocr2 import DeepseekOcr2ImageProcessorPil

    width, height = size
    rng = np.random.default_rng(width)
    image = Image.fromarray(rng.integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)).resize(size)
    native = DeepseekOcr2ImageProcessorPil()(image, return_tensors="np")
    views = cut_views(image, "v2", "auto")
    assert np.array_equal(native["pixel_values"][0], normalised(views.whole, "v2", FLOATS))
    assert (0 if views.tiles is None else len(views.tiles)) == native["num_local_patches"][0]
    if views.tiles is not None:
        assert np.array_equal(np.array(native["pixel_values_local"]), normalised(views.tiles, "v2", FLOATS))
    small = DeepseekOcr2ImageProcessorPil()(image, return_tensors="np", crop_to_patches=False)
    assert np.array_equal(small["pixel_values"][0], normalised(cut_views(image, "v2", "small").whole, "v2", FLOATS))


@pytest.mark.parametrize(
    ("resolution", "v1", "v2"),
    [
        ("tiny", 73, 145),
        ("small", 111, 145),
        ("base", 273, 257),
        ("large", 421, 257),
        ("gundam", 903, 1121),
        ("auto", 903, 1121),
    ],
)
def test_each_resolution_costs_the_known_number_of_tokens(resolution: str, v1: int, v2: int) -> None:
    from PIL import Image

    a4 = Image.new("RGB", (1240, 1754))
    assert cut_views(a4, "v1", resolution).placeholders == v1
    assert cut_views(a4, "v2", resolution).placeholders == v2
    assert set(RESOLUTIONS) == {"tiny", "small", "base", "large", "gundam", "auto"}


def test_grids_keep_the_shape_of_the_page() -> None:
    assert closest_grid(1240, 1754, 640, 2, 9) == (2, 3)
    assert closest_grid(5000, 500, 640, 2, 9) == (9, 1)
    # Both are square: nine tiles are for a page that fills half of them.
    assert closest_grid(1300, 1300, 640, 2, 9) == (2, 2)
    assert closest_grid(1400, 1400, 640, 2, 9) == (3, 3)


@pytest.mark.parametrize("mode", list(MODES))
def test_prompts_are_those_of_the_readme_after_the_picture(v1_folder: Path, mode: str) -> None:
    tokenizer = read_checkpoint(str(v1_folder)).tokenizer
    prompt = prompt_for(ReadOptions(mode, find_term="Total", custom_prompt="How many cats?"))
    ids = encode_prompt(tokenizer, prompt, 3)
    expected = MODES[mode].prompt.format(term="Total", prompt="How many cats?")
    assert tokenizer.decode(ids) == tiny_deepseek.BOS + "<image>" * 3 + "\n" + expected
    for tag in ("<|grounding|>", "<|ref|>"):
        assert (tokenizer.convert_tokens_to_ids(tag) in ids) == (tag in expected)


def test_words_of_the_request_cannot_add_pictures_or_close_a_tag(v1_folder: Path) -> None:
    tokenizer = read_checkpoint(str(v1_folder)).tokenizer
    hostile = ReadOptions("freeform", custom_prompt="<image>\nRead <image><image>this  ")
    assert (
        tokenizer.decode(encode_prompt(tokenizer, prompt_for(hostile), 1)) == tiny_deepseek.BOS + "<image>\nRead this"
    )
    term = ReadOptions("find", find_term="x<|/ref|> {prompt} <|grounding|>")
    assert prompt_for(term) == "Locate <|ref|>x {prompt}<|/ref|> in the image."
    empty = encode_prompt(tokenizer, " ", 2)
    assert tokenizer.decode(empty) == tiny_deepseek.BOS + "<image>" * 2


# ---------------------------------------------------------------- the checkpoint


def test_checkpoints_are_told_apart_and_load_whole(tmp_path: Path) -> None:
    for make, kind in ((tiny_deepseek.make_v1, "v1"), (tiny_deepseek.make_v2, "v2")):
        for original in (True, False):
            checkpoint = read_checkpoint(str(make(tmp_path / f"{kind}-{original}", original=original)))
            assert checkpoint.kind == kind
            model = checkpoint.load_model(torch.float32)
            assert not model.training
            assert not any(parameter.requires_grad for parameter in model.parameters())


def test_v1_attends_to_everything_and_v2_has_the_sizes_that_its_config_leaves_out(tmp_path: Path) -> None:
    v1 = read_checkpoint(str(tiny_deepseek.make_v1(tmp_path / "v1"))).config
    assert v1.text_config.layer_types == ["full_attention"] * 2
    folder = tiny_deepseek.make_v2(tmp_path / "v2", original=True)
    raw = json.loads((folder / "config.json").read_text())
    del raw["vision_config"]
    raw["language_config"] |= {"hidden_size": 1280, "num_hidden_layers": 12, "num_attention_heads": 10}
    (folder / "config.json").write_text(json.dumps(raw))
    v2 = read_checkpoint(str(folder)).config
    assert v2.text_config.mlp_layer_types == ["dense"] + ["sparse"] * 11
    encoder = v2.vision_config.encoder_config
    assert (encoder.hidden_size, encoder.num_hidden_layers, encoder.num_key_value_heads) == (896, 24, 2)
    assert encoder.rope_parameters["rope_theta"] == 1_000_000
    assert v2.vision_config.sam_config.downsample_channels == [512, 896]


def test_spaces_and_newlines_survive_the_tokenizer(folder: Path) -> None:
    tokenizer = read_checkpoint(str(folder)).tokenizer
    text = "  two\n\n words , <td>x</td>\n"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_an_empty_model_filled_by_hand_computes_the_same(folder: Path, pages: list[PageImage]) -> None:
    checkpoint = read_checkpoint(str(folder))
    loaded = checkpoint.load_model(torch.float32)
    filled = checkpoint.empty_model()
    assert all(parameter.is_meta for parameter in filled.parameters())
    filled.load_state_dict(loaded.state_dict(), assign=True)
    checkpoint.rebuild_buffers(filled)
    for (name, ours), (theirs_name, theirs) in zip(filled.named_buffers(), loaded.named_buffers(), strict=True):
        assert name == theirs_name
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)
    assert read_tokens(ModelReader(checkpoint, filled), pages[:1]) == read_tokens(
        ModelReader(checkpoint, loaded), pages[:1]
    )


def edited(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the tensors of a checkpoint."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def rename(tensors: dict[str, Any], old: str, new: str) -> None:
    tensors[new] = tensors.pop(old)


NEWLINE = "model.image_newline"
FAULTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "missing": (lambda t: t.pop(NEWLINE), r"1 missing \(model.image_newline\)"),
    "unknown": (lambda t: t.update(extra=torch.zeros(3)), r"1 unknown \(extra\)"),
    "misshaped": (lambda t: t.update({NEWLINE: torch.zeros(7)}), r"1 of another shape \(model.image_newline\)"),
    "renamed": (lambda t: rename(t, NEWLINE, "model.newline"), "1 missing .* 1 unknown"),
    "empty": (lambda t: t.clear(), r"missing \(.*, .*, .*, .* and \d+ more\)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_checkpoint_that_lacks_a_weight_is_refused_by_name(tmp_path: Path, fault: str) -> None:
    folder = tiny_deepseek.make_v1(tmp_path / "v1")
    change, message = FAULTS[fault]
    edited(folder, change)
    with pytest.raises(EngineUnavailable, match=message) as caught:
        read_checkpoint(str(folder)).load_model(torch.float32)
    assert "download" in caught.value.remedy


@pytest.mark.parametrize("missing", ["experts.1.up_proj", "qkv_proj"])
def test_a_part_of_a_fused_weight_is_missed_too(tmp_path: Path, missing: str) -> None:
    folder = tiny_deepseek.make_v1(tmp_path / "v1")

    def drop(tensors: dict[str, Any]) -> None:
        del tensors[next(name for name in tensors if missing in name)]

    edited(folder, drop)
    with pytest.raises(EngineUnavailable):
        read_checkpoint(str(folder)).load_model(torch.float32)


def spoiled(folder: Path, name: str, text: str | None) -> None:
    if text is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.json", None, "config.json is missing"),
        ("config.json", "{", "config.json cannot be read"),
        ("config.json", "[]", "holds no object"),
        ("config.json", '{"model_type": "llama"}', "of type 'llama', which is not read here"),
        ("config.json", '{"model_type": "deepseek_vl_v2", "language_config": {}}', "is not read here"),
        ("config.json", '{"model_type": "deepseek_ocr2", "text_config": {"hidden_size": "x"}}', "is not understood"),
        ("tokenizer.json", None, "tokenizer.json is missing"),
        ("tokenizer.json", "{}", "tokenizer.json cannot be read"),
        ("model.safetensors", None, "no model.safetensors"),
        ("model.safetensors", "", "The checkpoint in"),
        ("model.safetensors", "garbage of some length", "The checkpoint in"),
        ("model.safetensors.index.json", '{"weight_map": {"a": "one.safetensors"}}', "no one.safetensors"),
        ("model.safetensors.index.json", "{}", "not complete"),
    ],
)
def test_a_folder_that_is_no_checkpoint_is_refused_in_words(
    tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    folder = tiny_deepseek.make_v1(tmp_path / "v1")
    spoiled(folder, name, text)
    with pytest.raises(EngineUnavailable, match=message):
        read_checkpoint(str(folder)).load_model(torch.float32)


def test_a_tokenizer_without_the_tags_is_refused(tmp_path: Path) -> None:
    folder = tiny_deepseek.make_v1(tmp_path / "v1")
    spoiled(folder, "tokenizer.json", (folder / "tokenizer.json").read_text().replace("<|det|>", "<|bet|>"))
    with pytest.raises(EngineUnavailable, match=r"no token <\|det\|>"):
        read_checkpoint(str(folder))


def test_no_code_of_a_checkpoint_is_run_and_no_hub_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_deepseek.make_v1(tmp_path / "v1")
    for name in ("modeling_deepseekocr", "configuration_deepseekv2"):
        (folder / f"{name}.py").write_text("raise SystemExit('this ran')")

    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.socket.connect", refused)
    monkeypatch.setattr("builtins.input", refused)
    read_checkpoint(str(folder)).load_model(torch.float32)


# ---------------------------------------------------------------- reading


def test_an_engine_loads_reads_parks_and_reads_the_same_again(
    folder: Path, pages: list[PageImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MODEL_PATH, str(folder))
    monkeypatch.setattr("deepseek_ocr_mcp.engines.deepseek.engine.usable_cores", lambda: 1)
    engine, call = DeepSeekEngine(), Listening()
    assert "not loaded" in repr(engine)
    number = {"tiny-v1": "", "tiny-v2": "-2"}[folder.name]
    assert engine.load("cpu", call)["model"] == f"DeepSeek-OCR{number} ({folder.name})"
    assert "cpu" in repr(engine)
    options = ReadOptions("document", resolution="small")
    first = engine.read(pages, options, call)
    assert len(first) == len(pages)
    assert {text.finish for text in first} <= {"stop", "loop"}
    assert any(text.text for text in first)
    assert all((text.tokens == 0) == (text.raw == "") for text in first), "a page without words has none"
    engine.offload()
    engine.restore("cpu")
    assert engine.read(pages[:3], options, call) == first[:3]
    assert engine.read(pages[:1], ReadOptions("free", resolution="small"), call) != first[:1]


def test_prompts_of_all_lengths_are_written_side_by_side(folder: Path, pages: list[PageImage]) -> None:
    model = reader(folder)
    options = ReadOptions("document")  # cropping: prompts from 145 to 1200 tokens
    together = model.read(pages[:3], options, Listening(), max_new_tokens=30)
    alone = [model.read([page], options, Listening(), max_new_tokens=30)[0] for page in pages[:3]]
    assert together == alone
    assert len({written.text for written in together}) > 1


def test_several_pages_are_looked_at_at_once_where_there_is_room(
    folder: Path, pages: list[PageImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, options = reader(folder), ReadOptions("document")  # tiles, of three pages, in one call
    alone = [model.read([page], options, Listening(), max_new_tokens=12)[0] for page in pages[:4]]
    monkeypatch.setattr(ModelReader, "_looked_at_once", lambda _: 3)
    looked: list[int] = []
    inner = model._model.model
    hook = inner.vision_tower.register_forward_pre_hook(lambda _module, inputs: looked.append(len(inputs[0])))
    call = Listening()
    call.dropped = {1: 0}
    together = model.read([pages[0], *pages[:4]], options, call, max_new_tokens=12)
    hook.remove()
    assert together[0] == alone[0]
    assert [written.finish for written in together][1] == "cancelled"
    assert together[2:] == alone[1:]
    assert looked[0] == 3, "the whole views of three pages"


@pytest.mark.parametrize(("folder", "room"), [("v1", 1), ("v1", 3), ("v2", 2)], indirect=["folder"])
def test_pages_are_written_as_if_alone_in_whatever_order_they_come_and_enter_slots(
    folder: Path, pages: list[PageImage], texts_alone: Alone, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    alone, model = texts_alone(folder), reader(folder)
    monkeypatch.setattr(ModelReader, "_room", lambda *_: room)
    entered: list[int] = []
    enter = Slots.enter
    monkeypatch.setattr(Slots, "enter", lambda self, prompt: (entered.append(self.active), enter(self, prompt))[1])
    for order in ([4, 2, 0, 3, 1], [3, 3, 1, 1]):
        read = read_tokens(model, [pages[number] for number in order])
        assert read == [alone[number] for number in order]
    assert len(entered) == 9
    assert max(entered) == room - 1  # as many as there is room for were there at once


@pytest.mark.parametrize("when", ["one after the other", "all in the first step", "at its end", "after its end"])
@pytest.mark.parametrize(("folder", "most"), [("v1", 32), ("v2", 3)], indirect=["folder"])
def test_pages_that_join_a_running_call_are_written_as_if_alone(
    folder: Path, pages: list[PageImage], texts_alone: Alone, monkeypatch: pytest.MonkeyPatch, when: str, most: int
) -> None:
    alone, model = texts_alone(folder), reader(folder)
    monkeypatch.setattr(ModelReader, "_room", lambda *_: most)
    together: list[int] = []
    write = Slots.write
    monkeypatch.setattr(Slots, "write", lambda self, tokens: (together.append(len(tokens)), write(self, tokens))[1])
    first, *others = sorted(range(5), key=lambda number: -len(alone[number].tokens))
    end = len(alone[first].tokens)  # before each token the call asks for more
    joining = {
        "one after the other": {3: others[:1], 5: others[1:2], 6: others[2:3], 7: others[3:]},
        "all in the first step": {1: others},
        "at its end": {end // 2: others[3:], end - 1: others[:3]},
        "after its end": {end + 3: others},
    }[when]
    call = Listening()
    call.joining = {question: [pages[number] for number in numbers] for question, numbers in joining.items()}
    ended: dict[int, Written] = {}
    read = model.read(
        [pages[first]],
        DOCUMENT,
        call,
        max_new_tokens=60,
        on_written=lambda number, _, written: ended.update({number: written}),
    )
    order = [first] if when == "after its end" else [first, *(number for new in joining.values() for number in new)]
    assert read == [alone[number] for number in order]
    assert ended == dict(enumerate(read))
    assert max(together) in ((1,) if len(order) == 1 else range(2, most + 1))  # they shared steps
    assert call.rooms[0] == most - 1


def test_no_page_is_asked_for_once_memory_ran_out_and_those_that_joined_are_read(
    v1_folder: Path, pages: list[PageImage], texts_alone: Alone
) -> None:
    model, alone = reader(v1_folder), texts_alone(v1_folder)
    call = Listening()
    call.joining = {3: [pages[1], pages[2]]}
    with short_of_memory(model, 1) as sizes:
        read = model.read(pages[:1], DOCUMENT, call, max_new_tokens=60)
    assert read == alone[:3]
    assert max(sizes) == 4  # as many slots as a step has rows
    assert len(call.rooms) == 3  # then memory ran out


def test_no_page_joins_a_process_that_is_to_be_replaced(
    v1_folder: Path, pages: list[PageImage], texts_alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Slots, "spoiled", "a step could not be recorded")
    call = Listening()
    call.joining = {1: [pages[1]]}
    read = reader(v1_folder).read(pages[:1], DOCUMENT, call, max_new_tokens=60)
    assert read == texts_alone(v1_folder)[:1]
    assert call.rooms == []


def test_a_page_that_joined_and_is_dropped_harms_no_other(
    v1_folder: Path, pages: list[PageImage], texts_alone: Alone
) -> None:
    alone = texts_alone(v1_folder)
    call = Listening()
    call.joining, call.dropped = {3: [pages[1], pages[2]]}, {1: 20}
    read = reader(v1_folder).read(pages[:1], DOCUMENT, call, max_new_tokens=60)
    assert [written.finish for written in read] == [alone[0].finish, "cancelled", alone[2].finish]
    assert (read[0], read[2]) == (alone[0], alone[2])


class Leaving(Listening):
    """Its second page is gone; the word of that comes when it has been asked for a few times."""

    def __init__(self, asks: int) -> None:
        super().__init__()
        self.asks = asks

    def is_dropped(self, page: int) -> bool:
        self.asks -= page == 1
        return page == 1 and self.asks < 0


def test_a_picture_that_is_gone_with_its_caller_harms_no_other_page(
    v1_folder: Path, pages: list[PageImage], texts_alone: Alone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = PageImage(str(tmp_path / "gone.rgb"), 32, 64)
    model = reader(v1_folder)
    read = model.read([pages[0], gone, pages[4]], DOCUMENT, Leaving(4), max_new_tokens=60)
    assert read[1].finish == "cancelled"
    assert [read[0], read[2]] == [texts_alone(v1_folder)[number] for number in (0, 4)]
    monkeypatch.setattr(generate, "LEAVING_S", 0.01)
    with pytest.raises(FileNotFoundError):  # somebody waits for it
        model.read([pages[0], gone], DOCUMENT, Listening(), max_new_tokens=60)


def test_slots_move_down_when_a_step_of_fewer_rows_holds_them(v1_folder: Path) -> None:
    model: Any = reader(v1_folder)._model
    torch.manual_seed(3)
    prompts = [slots.Prompt(torch.randn(count, 32)) for count in (9, 40, 12, 3, 21)]

    def written(choose: Callable[[int, int], bool], capacity: int) -> list[list[int]]:
        """The tokens of each prompt; `choose(step, prompt)` says whether it enters or leaves before that step."""
        with torch.inference_mode():
            sheet = Slots(model, capacity)
            there: dict[int, slots.Slot] = {}
            tokens: list[list[int]] = [[] for _ in prompts]
            for step in range(40):
                for number, prompt in enumerate(prompts):
                    if choose(step, number) and number not in there and not tokens[number]:
                        there[number] = sheet.enter(prompt)
                chosen = sheet.chosen()
                for number, slot in list(there.items()):
                    tokens[number].append(chosen[slot.row])
                    if len(tokens[number]) == 6 + 3 * number:
                        sheet.leave(there.pop(number))
                if there:
                    rows.append(len(chosen))
                    sheet.write({slot: tokens[number][-1] for number, slot in there.items()})
            return tokens

    rows: list[int] = []
    alone = [written(lambda _, n, number=number: n == number, 1)[number] for number in range(5)]
    rows.clear()
    assert written(lambda *_: True, 5) == alone
    assert rows[0] == 5
    assert 1 in rows
    assert written(lambda step, number: step >= 3 * (4 - number), 8) == alone


@pytest.mark.parametrize(
    ("rows", "capacity", "step"), [(1, 32, 1), (3, 32, 4), (5, 32, 8), (17, 32, 32), (3, 3, 3), (5, 6, 6), (1, 1, 1)]
)
def test_a_step_has_the_fewest_rows_of_a_few_sizes(rows: int, capacity: int, step: int) -> None:
    assert slots.bucket_for(rows, capacity) == step


@pytest.mark.parametrize("resolution", list(RESOLUTIONS))
def test_every_resolution_is_read(folder: Path, pages: list[PageImage], resolution: str) -> None:
    (written,) = reader(folder).read(pages[1:2], ReadOptions("free", resolution=resolution), Listening())
    assert written.finish in ("stop", "loop")


def test_what_the_model_writes_becomes_text_and_blocks(
    v1_folder: Path, pages: list[PageImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MODEL_PATH, str(v1_folder))
    monkeypatch.setattr("deepseek_ocr_mcp.engines.deepseek.engine.usable_cores", lambda: 1)
    engine = DeepSeekEngine()
    engine.load("cpu", Listening())
    tokenizer = engine._reader._checkpoint.tokenizer

    def answer(said: str, options: ReadOptions) -> Any:
        script = [*tokenizer.encode(said, add_special_tokens=False), tokenizer.eos_token_id]
        with saying(engine._reader, lambda _row, step: script[step]):
            (text,) = engine.read(pages[:1], options, Listening())
        return text

    said = "<|ref|>title<|/ref|><|det|>[[0, 0, 999, 500]]<|/det|>\n# Hello  you\n"
    text = answer(said, DOCUMENT)
    assert (text.text, text.finish) == ("# Hello  you", "stop")
    assert [(block.label, block.text, block.box) for block in text.blocks] == [
        ("title", "# Hello  you", (0, 0, 300, 101))
    ]
    said = "<|ref|>Total<|/ref|><|det|>[[0, 0, 333, 999]]<|/det|>"
    found = answer(said, ReadOptions("find", find_term="total", resolution="tiny"))
    assert [(block.label, block.text, block.box) for block in found.blocks] == [("total", "Total", (0, 0, 100, 200))]
    lines = answer(said, ReadOptions("ocr", resolution="tiny"))
    assert [(block.label, block.text) for block in lines.blocks] == [("line", "Total")]
    assert lines.text == "Total"


def test_a_page_without_an_end_is_cut_at_the_limit_and_says_so(v1_folder: Path, pages: list[PageImage]) -> None:
    model = reader(v1_folder)
    with saying(model, lambda row, step: 40 + (7 * step * step + row) % 80):
        written = model.read(pages[:2], DOCUMENT, Listening(), max_new_tokens=23)
    assert [(page.finish, len(page.tokens)) for page in written] == [("length", 23)] * 2


@pytest.mark.parametrize("period", [1, 17, 60])
def test_a_loop_is_cut_and_its_neighbours_read_on(v1_folder: Path, pages: list[PageImage], period: int) -> None:
    model = reader(v1_folder)
    before = 50

    def choose(row: int, step: int) -> int:
        if row == 0 and step >= before:
            return 40 + step % period
        if step == 300:
            return int(model._checkpoint.tokenizer.eos_token_id)
        return 40 + (step * step * 3 + step // 7 + row) % 90

    with saying(model, choose) as rows:
        written = model.read(pages[:1], DOCUMENT, Listening())
    assert written[0].finish == "loop"
    assert len(rows) <= before + 200
    assert before <= len(written[0].tokens) <= before + 2 * period + 2
    with saying(model, choose):
        both = model.read(pages[:3], DOCUMENT, Listening())
    assert [page.finish for page in both] == ["loop", "stop", "stop"]
    assert both[0] == written[0]
    # Row 0 has left the batch by then, so row numbers move up: lengths are what is comparable.
    assert [len(page.tokens) for page in both[1:]] == [300, 300]


def test_rows_that_ended_leave_the_batch(v1_folder: Path, pages: list[PageImage], texts_alone: Alone) -> None:
    model, alone = reader(v1_folder), texts_alone(v1_folder)
    sizes: list[int] = []
    handle = model._model.lm_head.register_forward_hook(lambda _m, _i, logits: sizes.append(len(logits)))
    assert read_tokens(model, pages) == alone
    handle.remove()
    assert max(sizes) == 5
    assert sizes[-1] <= 2


def test_a_page_that_nobody_waits_for_leaves_the_batch_and_its_neighbours_read_on(
    folder: Path, pages: list[PageImage]
) -> None:
    model = reader(folder)

    def read(chosen: list[PageImage], call: Listening) -> list[generate.Written]:
        return model.read(chosen, DOCUMENT, call, max_new_tokens=40, free_running=True)

    alone = [read([page], Listening())[0] for page in pages]
    asked = Listening()
    read(pages, asked)
    call = Listening()
    call.dropped = {1: asked.asked - 20, 3: 0}  # one while it is written, one before it is looked at
    together = read(pages, call)
    assert [page.finish for page in together] == ["length", "cancelled", "length", "cancelled", "length"]
    assert 0 < len(together[1].tokens) < 40
    assert together[1].tokens == alone[1].tokens[: len(together[1].tokens)]
    assert together[3].tokens == ()
    assert [together[number] for number in (0, 2, 4)] == [alone[number] for number in (0, 2, 4)]
    assert "looking at page 4 of 5" not in [message for _, message in call.heard]
    call.dropped = dict.fromkeys(range(5), 0)
    assert {page.finish for page in read(pages, call)} == {"cancelled"}


# ---------------------------------------------------------------- the slots that pages are written in


@pytest.fixture
def recordable_here(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Steps on the CPU count as recordable; what is "recorded" is the step itself. How often that was.

    As with a CUDA graph, what it reads and writes must lie where it lay.
    """
    recorded: list[int] = []

    def addresses(step: Any) -> list[int]:
        [sheet] = [cell.cell_contents for cell in step.__closure__ if isinstance(cell.cell_contents, Slots)]
        held = [value for value in vars(sheet).values() if isinstance(value, torch.Tensor)]
        kept = [tensor for layer in sheet._cache.layers for tensor in (layer.keys, layer.values)]
        return [tensor.data_ptr() for tensor in held + kept]

    def record(step: Callable[[], None]) -> Callable[[], None]:
        recorded.append(1)
        before = addresses(step)

        def replay() -> None:
            assert addresses(step) == before
            step()

        return replay

    monkeypatch.setattr(slots, "record", record)
    monkeypatch.setattr(slots, "RECORD_AFTER", 3)
    monkeypatch.setattr(Slots, "recorded_on", ("cpu",))
    monkeypatch.setattr(Slots, "recordable", True)
    monkeypatch.setattr(Slots, "spoiled", "")
    return recorded


def test_the_tokens_do_not_depend_on_how_often_the_cache_grows(
    folder: Path, pages: list[PageImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = reader(folder)
    seldom = model.read(pages, DOCUMENT, Listening(), max_new_tokens=120)
    monkeypatch.setattr(slots, "GROW", {"cpu": 7})
    assert model.read(pages, DOCUMENT, Listening(), max_new_tokens=120) == seldom
    assert max(len(page.tokens) for page in seldom) > 7


def test_a_recorded_step_writes_what_the_step_itself_writes(
    folder: Path, pages: list[PageImage], monkeypatch: pytest.MonkeyPatch, recordable_here: list[int]
) -> None:
    monkeypatch.setattr(slots, "GROW", {"cpu": 20})
    model = reader(folder)
    recorded = model.read(pages, DOCUMENT, Listening(), max_new_tokens=60)
    assert len(recordable_here) > 1  # anew for each shape
    monkeypatch.setattr(Slots, "recordable", False)
    assert model.read(pages, DOCUMENT, Listening(), max_new_tokens=60) == recorded


def test_pages_that_join_make_room_and_nothing_recorded_outlives_it(
    v1_folder: Path, pages: list[PageImage], texts_alone: Alone, recordable_here: list[int]
) -> None:
    model, alone = reader(v1_folder), texts_alone(v1_folder)
    first, *others = sorted(range(5), key=lambda number: -len(alone[number].tokens))
    call = Listening()
    call.joining = {8 * place: [pages[number]] for place, number in enumerate(others, 1)}
    read = model.read([pages[first]], DOCUMENT, call, max_new_tokens=60)
    assert read == [alone[number] for number in (first, *others[: len(read) - 1])]
    assert len(read) > 2
    assert len(recordable_here) > 2  # anew for each width


def test_a_card_that_cannot_record_reads_all_the_same_and_is_asked_once(
    v1_folder: Path,
    pages: list[PageImage],
    texts_alone: Alone,
    monkeypatch: pytest.MonkeyPatch,
    recordable_here: list[int],
) -> None:
    model, expected = reader(v1_folder), texts_alone(v1_folder)
    asked: list[int] = []

    def refuse(step: Callable[[], None]) -> Callable[[], None]:
        asked.append(1)
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    monkeypatch.setattr(slots, "record", refuse)
    assert read_tokens(model, pages) == expected
    assert asked == [1]
    assert "stream is capturing" in Slots.spoiled


def test_memory_that_ends_while_a_step_is_recorded_halves_the_batch(
    v1_folder: Path,
    pages: list[PageImage],
    texts_alone: Alone,
    monkeypatch: pytest.MonkeyPatch,
    recordable_here: list[int],
) -> None:
    model, expected = reader(v1_folder), texts_alone(v1_folder)
    left = [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")]

    def record(step: Callable[[], None]) -> Callable[[], None]:
        if left:
            raise left.pop()
        return step

    monkeypatch.setattr(slots, "record", record)
    assert read_tokens(model, pages) == expected
    assert Slots.spoiled.startswith("CUDA out of memory")  # of the allocator, too: this process is to be replaced


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA card")
def test_steps_are_recorded_on_a_card_and_write_the_same(v1_folder: Path, pages: list[PageImage]) -> None:
    checkpoint = read_checkpoint(str(v1_folder))
    model = ModelReader(checkpoint, checkpoint.load_model(torch.bfloat16).to("cuda"))
    use_recordable_experts(model._model)
    assert Slots.recordable
    recorded = model.read(pages, DOCUMENT, Listening(), max_new_tokens=200, free_running=True)
    assert Slots.recordable, "the step cannot be recorded on this card"
    Slots.recordable = False
    try:
        assert model.read(pages, DOCUMENT, Listening(), max_new_tokens=200, free_running=True) == recorded
    finally:
        Slots.recordable = True


def test_cancellation_stops_before_the_next_token(v1_folder: Path, pages: list[PageImage]) -> None:
    model, call = reader(v1_folder), Listening()
    before = model.read(pages[:2], DOCUMENT, call)
    asked: list[int] = []

    def choose(row: int, step: int) -> int:
        if step == 10:
            call.patience = 0  # nobody waits from here on
        asked.append(step)
        return 40 + (step * 7) % 80

    with saying(model, choose), pytest.raises(Cancelled):
        model.read(pages[:2], DOCUMENT, call)
    assert max(asked) == 10
    assert model.read(pages[:2], DOCUMENT, Listening()) == before


def test_cancellation_stops_while_the_page_is_looked_at(folder: Path, pages: list[PageImage]) -> None:
    model = reader(folder)
    for patience in range(5):
        call = Listening(patience)
        with pytest.raises(Cancelled):
            model.read(pages[:1], DOCUMENT, call)
        assert call.asked == patience + 1
    hooked = [module for module in model._model.modules() if module._forward_pre_hooks]
    assert hooked == []


def test_progress_only_goes_forward(v1_folder: Path, pages: list[PageImage], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "PROGRESS_S", 0.0)
    monkeypatch.setattr(generate, "MAX_SLOTS", 2)
    call = Listening()
    reader(v1_folder).read(pages, DOCUMENT, call)
    shares = [done for done, _ in call.heard]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] == 1
    assert any(message.endswith("tokens") for _, message in call.heard)
    assert "looking at page 5 of 5" in [message for _, message in call.heard]


# ---------------------------------------------------------------- memory


@contextmanager
def short_of_memory(
    model: ModelReader, most: int, *, after: int = 0, kind: Callable[[str], Exception] | None = None
) -> Iterator[list[int]]:
    """The language model runs out of memory in steps of more than `most` rows, after so many; 0 rows: in prompts.

    Yields the rows of each step.
    """
    sizes: list[int] = []
    error = kind or torch.OutOfMemoryError

    def hook(_module: Any, _inputs: Any, arguments: dict[str, Any]) -> None:
        if arguments.get("inputs_embeds") is not None and most:
            return
        rows = len(arguments["attention_mask"])
        sizes.append(rows)
        if rows > most and len(sizes) > after:
            raise error("CUDA out of memory. Tried to allocate 20.00 MiB.\nMore of it")

    handle = model._model.model.language_model.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield sizes
    finally:
        handle.remove()


def test_out_of_memory_halves_the_slots_and_goes_on(folder: Path, pages: list[PageImage], texts_alone: Alone) -> None:
    model, alone = reader(folder), texts_alone(folder)
    with short_of_memory(model, 1) as sizes:
        assert read_tokens(model, pages) == alone
    assert sizes[:3] == [5, 2, 1]


def test_pages_that_are_finished_when_memory_runs_out_are_kept(
    v1_folder: Path, pages: list[PageImage], texts_alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, alone = reader(v1_folder), texts_alone(v1_folder)
    after = sorted(len(written.tokens) for written in alone)[1]  # when two of five have ended
    read: list[list[int]] = []
    read_all = ModelReader._read_all

    def noted(self: ModelReader, task: Any, attempt: Any, numbers: Any) -> None:
        read.append(list(numbers))
        read_all(self, task, attempt, numbers)

    monkeypatch.setattr(ModelReader, "_read_all", noted)
    with short_of_memory(model, 1, after=after + 2):
        assert read_tokens(model, pages) == alone
    assert len(read) > 1
    assert len(read[1]) == 3


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_a_lack_of_memory_in_other_words_halves_the_slots_too(
    v1_folder: Path, pages: list[PageImage], texts_alone: Alone, words: str
) -> None:
    model, alone = reader(v1_folder), texts_alone(v1_folder)[:2]

    def error(_: str) -> RuntimeError:
        return torch.AcceleratorError(words) if words.endswith("of memory") else RuntimeError(words)

    with short_of_memory(model, 1, kind=error) as sizes:
        assert read_tokens(model, pages[:2]) == alone
    assert sizes[:2] == [2, 1]
    with short_of_memory(model, 0, kind=error), pytest.raises(GpuBusy, match=re.escape(words)):
        model.read(pages[:1], DOCUMENT, Listening())


def test_one_page_that_does_not_fit_is_an_error_with_a_remedy(
    folder: Path, pages: list[PageImage], texts_alone: Alone
) -> None:
    model, before = reader(folder), texts_alone(folder)[:2]
    with short_of_memory(model, 0), pytest.raises(GpuBusy, match=r"300 x 200 pixels .* 20.00 MiB\.") as caught:
        model.read(pages[:2], DOCUMENT, Listening())
    assert "OCR_GPU" in caught.value.remedy
    assert read_tokens(model, pages[:2]) == before


def test_another_error_is_not_taken_for_a_lack_of_memory(v1_folder: Path, pages: list[PageImage]) -> None:
    model = reader(v1_folder)
    with short_of_memory(model, 0, kind=KeyError), pytest.raises(KeyError):
        model.read(pages[:2], DOCUMENT, Listening())


def test_there_are_as_many_slots_as_the_free_memory_allows(v1_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = reader(v1_folder)
    per_token = 2 * 2 * 2 * 16 * 4  # keys and values, layers, heads, their size, float32
    each = per_token * (generate.MAX_NEW_TOKENS + model._prompts.longest)
    beside = generate.WORKING_BYTES + (model._checkpoint.row.looking_mb << 20)
    for free, room in ((0, 1), (beside + 2 * each, 2), (beside + 3 * each - 1, 2)):
        monkeypatch.setattr(ModelReader, "_free_bytes", lambda _self, free=free: free)
        assert model._room(generate.MAX_NEW_TOKENS) == room


# ---------------------------------------------------------------- loops


def run(wanted: Callable[[list[int]], int], length: int, guard: LoopGuard | None = None) -> LoopGuard:
    """Let a model that always wants `wanted(tokens)` write; a ban makes it write another token."""
    guard = guard or LoopGuard()
    for _ in range(length):
        want = wanted(guard.tokens)
        banned = guard.banned()
        token = want
        while token in banned:
            token += 1000
        if guard.add(token, want):
            break
    return guard


SEEDS = st.integers(0, 2**32)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 180), st.integers(0, 300), st.booleans(), SEEDS)
def test_a_loop_is_cut_within_200_tokens_of_its_start(period: int, before: int, by_place: bool, seed: int) -> None:
    random = Random(seed)
    prefix = [random.randrange(5000, 90000) for _ in range(before)]
    cycle = random.sample(range(100, 400), period)

    def wanted(tokens: list[int]) -> int:
        if len(tokens) < before:
            return prefix[len(tokens)]
        if by_place or not tokens or tokens[-1] not in cycle:
            return cycle[(len(tokens) - before) % period]
        return cycle[(cycle.index(tokens[-1]) + 1) % period]

    # It starts where the first token comes again.
    guard = run(wanted, before + period + 200)
    assert guard.good_tokens is not None, guard
    assert len(guard.tokens) <= before + max(200, period + 200 if period > 60 else 0)
    assert before <= guard.good_tokens <= before + 2 * period + 2
    assert guard.tokens[:before] == prefix


@settings(max_examples=20, deadline=None)
@given(st.integers(181, 700), SEEDS)
def test_a_long_loop_is_cut_after_three_copies(period: int, seed: int) -> None:
    cycle = Random(seed).sample(range(100, 4000), period)
    guard = run(lambda tokens: cycle[len(tokens) % period], 3 * period + 1)
    assert guard.good_tokens == period


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(3, 3000))
def test_text_that_does_not_loop_is_left_alone(seed: int, words: int) -> None:
    random = Random(seed)
    text = [random.randrange(words) for _ in range(3000)]
    guard = run(lambda tokens: text[len(tokens)], len(text))
    assert (guard.good_tokens, guard.tokens) == (None, text)


def test_a_table_of_rows_that_differ_in_one_cell_is_left_alone() -> None:
    row, cell, end, cells = 1, 2, 3, frozenset({2, 3})
    text: list[int] = []
    for number in range(100):
        text += [row, cell, 100 + number, end, cell, 7, end, cell, 8, end]
    guard = run(lambda tokens: text[len(tokens)], len(text), LoopGuard(cells, cells | {row}))
    assert (guard.good_tokens, guard.tokens) == (None, text)


def test_empty_cells_are_never_banned_and_cut_only_after_a_thousand() -> None:
    cells = frozenset({2, 3})
    guard = run(lambda tokens: 2 + len(tokens) % 2, 900, LoopGuard(cells, cells))
    assert (guard.good_tokens, len(guard.tokens)) == (None, 900)
    assert set(guard.tokens) == {2, 3}
    run(lambda tokens: 2 + len(tokens) % 2, 200, guard)
    assert guard.good_tokens == 2
    assert "loop after 2" in repr(guard)


def test_a_paragraph_that_stands_twice_is_no_loop() -> None:
    for length in (100, 170, 300):
        paragraph = list(range(100, 100 + length))
        text = [9] * 5 + paragraph + [8] + paragraph + [7, 6]
        guard = run(lambda tokens, text=text: text[len(tokens)], len(text))  # type: ignore[misc]
        assert guard.good_tokens is None


def test_the_ban_is_the_one_of_vllm() -> None:
    guard = LoopGuard(cells={5})
    tokens = list(range(1000, 1061))
    for token in [*tokens, *tokens[:29]]:
        assert guard.banned() == set()
        guard.add(token)
    assert guard.banned() == {tokens[29]}  # it would complete an n-gram of 30 that began 61 tokens ago
    late = LoopGuard()
    for token in [*tokens, 1, *tokens[:29]]:
        late.add(token)
    assert late.banned() == set()  # 62 tokens ago: out of the window of 90


# ---------------------------------------------------------------- a card that fails

LOST = "CUDA error: unspecified launch failure\nCUDA kernel errors might be asynchronously reported"


@pytest.mark.parametrize("step", ["read", "offload", "restore"])
def test_a_card_that_fails_is_told_apart_from_every_other_error(
    v1_folder: Path, pages: list[PageImage], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setenv(MODEL_PATH, str(v1_folder))
    engine, call = DeepSeekEngine(), Listening()
    engine.load("cpu", call)
    calls: dict[str, Callable[[], object]] = {
        "read": lambda: engine.read(pages[:1], DOCUMENT, call),
        "offload": engine.offload,
        "restore": lambda: engine.restore("cpu"),
    }
    inner = {"read": (engine._reader, "read"), "offload": (engine._weights, "park")}
    target = inner.get(step, (engine._weights, "place"))
    for error, expected in (
        (RuntimeError(LOST), GpuLost),
        (torch.AcceleratorError("device-side assert triggered"), GpuLost),
        (RuntimeError("shapes do not match"), RuntimeError),
        (torch.OutOfMemoryError("CUDA out of memory."), torch.OutOfMemoryError),
    ):

        def fail(*_: Any, error: Exception = error, **__: Any) -> None:
            raise error

        monkeypatch.setattr(*target, fail)
        with pytest.raises(expected) as caught:
            calls[step]()
        assert type(caught.value) is expected
    monkeypatch.setattr(*target, lambda *_, **__: (_ for _ in ()).throw(RuntimeError(LOST)))
    with pytest.raises(GpuLost, match=r"unspecified launch failure\. See") as lost:
        calls[step]()
    assert "nvidia-smi" in lost.value.remedy


# ---------------------------------------------------------------- what is missing


def test_without_weights_the_error_names_the_command() -> None:
    with pytest.raises(EngineUnavailable) as caught:
        DeepSeekEngine().load("cpu", Listening())
    assert "deepseek-ocr-mcp download" in caught.value.remedy


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_without_a_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    name = "deepseek_ocr_mcp.engines.deepseek.engine"
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EngineUnavailable) as caught:
        importlib.import_module(name)
    assert extra_command("gpu") in caught.value.remedy
