"""A decode step that every card can record: the same tokens, and nothing in it that waits for the card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_deepseek
import tiny_vision

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from deepseek_ocr_mcp.engines.deepseek import experts  # noqa: E402
from deepseek_ocr_mcp.engines.deepseek.checkpoint import read_checkpoint  # noqa: E402
from deepseek_ocr_mcp.engines.deepseek.experts import is_gathered, use_recordable_experts  # noqa: E402
from deepseek_ocr_mcp.engines.deepseek.slots import Prompt, Slots  # noqa: E402

TOKENS = 12  # of each row
PROMPT = 40  # tokens; longer than the largest decode step, as every page is
LOGIT_TOLERANCE = 2e-6  # of the largest logit, in float32
WAITS = (
    *("_local_scalar_dense", "item", "nonzero", "equal.default", "masked_select", "unique"),
    *("_grouped_mm", "grouped_mm_fallback"),
)
"""Parts of names of operations that copy to the host, or whose shape depends on what the router chose."""

pytestmark = pytest.mark.usefixtures("quiet_torch")


@pytest.fixture(scope="module")
def language() -> Any:
    """A v1 model that has as many experts as the real one, and chooses as many of them."""
    import transformers

    sizes = {**tiny_deepseek.LANGUAGE, "hidden_size": 128, "n_routed_experts": 64, "num_experts_per_tok": 6}
    config = transformers.UnlimitedOcrConfig(
        text_config={**sizes, "num_hidden_layers": 3, "layer_types": ["full_attention"] * 3},
        vision_config={"sam_config": tiny_deepseek.SAM, "encoder_config": tiny_deepseek.CLIP},
        image_token_id=5,
    )
    torch.manual_seed(0)
    model = transformers.UnlimitedOcrForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 1.5 / parameter.shape[-1] ** 0.5)
    return model


def written(model: Any, rows: int, dtype: Any) -> tuple[list[list[int]], Any]:
    """The tokens of each step, and all logits."""
    torch.manual_seed(rows)
    vectors = torch.randn(rows, PROMPT, 128).to(dtype)
    tokens, logits = [], []
    with torch.inference_mode():
        slots = Slots(model, rows)
        entered = [slots.enter(Prompt(each[: PROMPT - 7 * (number == 1)])) for number, each in enumerate(vectors)]
        for _ in range(TOKENS):
            tokens.append(slots.chosen())
            logits.append(slots.logits.clone())
            slots.write({slot: tokens[-1][slot.row] for slot in entered})
    return tokens, torch.stack(logits)


@pytest.mark.parametrize("rows", [1, 4, 16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_the_same_tokens_are_written_as_with_the_experts_of_transformers(language: Any, rows: int, dtype: Any) -> None:
    language.to(dtype)
    use_recordable_experts(language)
    ours, our_logits = written(language, rows, dtype)
    assert len({token for step in ours for token in step}) > 8
    for reference in ("grouped_mm", "batched_mm"):
        language.set_experts_implementation(reference)
        tokens, logits = written(language, rows, dtype)
        assert ours == tokens
        if dtype is torch.bfloat16:
            assert torch.equal(our_logits, logits)
        assert (our_logits - logits).abs().max() <= LOGIT_TOLERANCE * logits.abs().max()


def test_an_expert_that_was_not_chosen_may_overflow(language: Any) -> None:
    language.to(torch.float32)
    layer = language.model.language_model.layers[1].mlp.experts
    hidden = torch.randn(4, 128)
    chosen = torch.tensor([[0, 1, 2, 3, 4, 5]] * 4)
    weights = torch.rand(4, 6)
    before = experts.all_experts(layer, hidden, chosen, weights)
    spared = layer.down_proj.data[63].clone()
    layer.down_proj.data[63] = torch.inf
    try:
        assert torch.equal(experts.all_experts(layer, hidden, chosen, weights), before)
    finally:
        layer.down_proj.data[63] = spared


def test_weights_are_gathered_while_that_moves_less_than_reading_all_of_them() -> None:
    assert [rows for rows in range(1, 17) if is_gathered(rows, 6, 64)] == [1, 2, 3]
    assert not is_gathered(1, 6, 16)


class Recorder(TorchDispatchMode):
    """Notes each operation, and each that takes tensors of one kind of device and gives another.

    Not for inference mode, in which `item()` comes as one operation and its parts are not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.copies: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        chosen = args[1] if str(func) == "aten.index.Tensor" else ()
        counts = any(index is not None and index.dtype is torch.bool for index in chosen)
        self.names.append("nonzero, for an index of truth values" if counts else str(func))
        flat, _ = torch.utils._pytree.tree_flatten((args, kwargs, result))
        devices = {tensor.device.type for tensor in flat if isinstance(tensor, torch.Tensor) and tensor.dim()}
        if len(devices) > 1:
            self.copies.append(str(func))
        return result


def recorded_step(model: Any, rows: int, size: int, *, window: int = 0, dimensions: int = 0) -> Recorder:
    """The operations of one decode step, after prompts.

    Args:
        model: to run.
        rows: of the step.
        size: of the model's vectors.
        window: see `Slots`.
        dimensions: of the places in a prompt; 0: tokens stand one after the other.
    """
    weight = model.lm_head.weight
    places = torch.arange(PROMPT, device=weight.device).repeat(dimensions, 1) if dimensions else None
    prompt = Prompt(torch.zeros(PROMPT, size, dtype=weight.dtype, device=weight.device), places)
    recorder = Recorder()
    with torch.no_grad():
        slots = Slots(model, rows, window=window)
        for _ in range(rows):
            slots.enter(prompt)
        with recorder:
            slots._step(rows)
    return recorder


def waits(recorder: Recorder) -> list[str]:
    return [name for name in recorder.names if any(part in name for part in WAITS)]


@pytest.mark.parametrize("rows", [1, 3, 4, 16])
@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_nothing_in_a_decode_step_waits_for_the_card(tmp_path: Path, kind: str, rows: int) -> None:
    make = {"v1": tiny_deepseek.make_v1, "v2": tiny_deepseek.make_v2}[kind]
    checkpoint = read_checkpoint(str(make(tmp_path / kind)))
    model = checkpoint.load_model(torch.bfloat16)
    assert waits(recorded_step(model, rows, 32))  # as transformers has it: the test would see them
    use_recordable_experts(model)
    recorder = recorded_step(model, rows, 32)
    assert "aten.bmm.default" in recorder.names
    assert not waits(recorder)


@pytest.mark.filterwarnings("ignore:.*mrope_section.*")
@pytest.mark.parametrize(
    ("name", "window", "dimensions"),
    [("LightOnOCR-3-1B", 0, 0), ("PaddleOCR-VL", 0, 3), ("GLM-OCR", 0, 3), ("Unlimited-OCR", 6, 0)],
)
def test_nothing_in_a_decode_step_of_the_other_models_waits_for_the_card(
    tmp_path: Path, name: str, window: int, dimensions: int
) -> None:
    checkpoint = read_checkpoint(str(tiny_vision.make(name, tmp_path)))
    model = checkpoint.load_model(torch.bfloat16)
    if checkpoint.kind != "native":
        use_recordable_experts(model)
    assert not waits(recorded_step(model, 4, 32, window=window, dimensions=dimensions))


@pytest.mark.parametrize(
    "waiting",
    [
        lambda tensor: tensor[0].item(),
        lambda tensor: bool(tensor[0] > 0),
        lambda tensor: tensor[tensor > 0],
        lambda tensor: torch.where(tensor > 0),
        lambda tensor: torch.equal(tensor, tensor),
    ],
    ids=["item", "bool", "index", "where", "equal"],
)
def test_the_recorder_sees_what_waits(waiting: Any) -> None:
    numbers = torch.arange(3)
    with torch.no_grad(), Recorder() as recorder:
        waiting(numbers)
    assert waits(recorder)


def test_a_step_of_the_real_size_copies_nothing_to_the_host() -> None:
    """On torch's meta device, where a copy to the host is an error and 3.3 B parameters take no memory."""
    import transformers

    config = transformers.UnlimitedOcrConfig()
    config.text_config.layer_types = ["full_attention"] * config.text_config.num_hidden_layers
    with torch.device("meta"):
        model = transformers.UnlimitedOcrForConditionalGeneration(config).to(torch.bfloat16).eval()
    use_recordable_experts(model)
    for rows in (1, 16):
        recorder = recorded_step(model, rows, 1280)
        assert len(recorder.names) > 500
        assert not recorder.copies
        assert not waits(recorder)
