"""Makes the prompt of a page: cuts the page, has the model look at it, and puts what it saw in its question.

`DeepSeekPrompts` is for the family of DeepSeek-OCR, whose prompts are those of the original code. `NativePrompts` is
for models whose picture is cut by the image processor of transformers and whose question stands in the checkpoint's
chat template. The template is a Jinja text, which transformers fills in Jinja's sandbox.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
import torch
import transformers
from PIL import Image

from ...errors import EngineUnavailable, UnsupportedMode
from ...modes import MODES, RESOLUTIONS
from ..base import PageImage, ReadOptions
from ..loops import LoopGuard
from .checkpoint import IMAGE, Checkpoint
from .preprocess import Kind, Pixels, Views, cut_views, level_table, read_page
from .slots import Prompt

__all__ = [
    "DeepSeekPrompts",
    "NativePrompts",
    "PromptMaker",
    "coloured",
    "encode_prompt",
    "levels_of",
    "normalised",
    "prompt_for",
    "prompts_for",
]

BLANK_PIECES: Final = ("<td></td>", "<tr></tr>", "<td> </td>", "|", "| ", " |", "\n", " ")
"""An empty table consists of these."""


class PromptMaker(Protocol):
    """All that differs between the models while pages are read."""

    longest: int
    """Tokens of the longest prompt."""
    window: int
    """See `slots.Slots`."""

    def prepare(self, page: PageImage, resolution: str) -> Any:
        """Cut a page. Runs on a thread beside others."""

    def prompts(self, model: Any, prepared: Sequence[Any], options: ReadOptions) -> list[Prompt]:
        """Look at pages that were prepared, at all of them at once where the model can.

        Args:
            model: the model, on its device.
            prepared: the pages as `prepare` made them.
            options: the mode and the words of the request.
        """

    def guard(self) -> LoopGuard:
        """For one text."""

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens."""


def prompts_for(checkpoint: Checkpoint) -> PromptMaker:
    """The prompts of a checkpoint's model."""
    return NativePrompts(checkpoint) if checkpoint.kind == "native" else DeepSeekPrompts(checkpoint)


def prompt_for(options: ReadOptions, checkpoint: Checkpoint | None = None) -> str:
    """The question to the model, without the picture. Tags in the request's own words are taken out.

    Args:
        options: of the request.
        checkpoint: of the model; None: DeepSeek-OCR's prompts.

    Raises:
        UnsupportedMode: the model has no prompt for this mode.
    """
    if checkpoint is None or checkpoint.row.markup == "deepseek":
        return MODES[options.mode].question(options.find_term, options.custom_prompt)
    row = checkpoint.row
    if options.mode not in row.prompts:
        raise UnsupportedMode(
            f"{row.name} cannot do mode {options.mode!r}: its publisher names no prompt for it.",
            remedy=f"Use one of {', '.join(sorted(row.modes))}, or have the operator set another OCR_MODEL.",
        )
    return row.prompts[options.mode]


# -- the family of DeepSeek-OCR


def encode_prompt(tokenizer: Any, prompt: str, placeholders: int, gap: str = "\n") -> list[int]:
    """Token ids as the original's `infer()` makes them: begin, one placeholder per vector, the question.

    The original strips the whole text, so a prompt of nothing loses its newline too.

    Args:
        tokenizer: a `transformers.PreTrainedTokenizerFast`.
        prompt: the question, without the picture.
        placeholders: vectors that the picture takes.
        gap: between picture and question; Unlimited-OCR has none.
    """
    text = f"{IMAGE}{gap}{prompt.replace(IMAGE, '').strip()}".strip().removeprefix(IMAGE)
    image: int = tokenizer.convert_tokens_to_ids(IMAGE)
    question: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return [tokenizer.bos_token_id, *[image] * placeholders, *question]


def normalised(pixels: Pixels, kind: Kind, like: torch.Tensor) -> torch.Tensor:
    """`(…, height, width, 3)` of 8 bits as `(…, 3, height, width)` from -1 to 1, of the device and dtype of `like`.

    Bytes travel to the card, not floats. A table of 256 values gives each what the original's arithmetic gives it.

    Args:
        pixels: of one view, or of several.
        kind: of the model: each has its own arithmetic.
        like: a tensor of the model.
    """
    levels = torch.from_numpy(level_table(kind)).to(like.device, like.dtype)
    numbers = torch.from_numpy(np.array(pixels)).to(like.device).int()
    return levels.index_select(0, numbers.view(-1)).view(numbers.shape).movedim(-1, -3).contiguous()


class DeepSeekPrompts:
    """See `PromptMaker`."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        assert checkpoint.kind != "native"
        self._kind: Kind = checkpoint.kind
        self._checkpoint = checkpoint
        self._tokenizer = checkpoint.tokenizer
        self._gap = "" if checkpoint.kind == "unlimited" else "\n"
        self.longest = 1300 if checkpoint.kind != "unlimited" else 3600  # the most tiles, the whole page, a question
        self.window: int = checkpoint.config.text_config.sliding_window if checkpoint.kind == "unlimited" else 0
        known = self._tokenizer.get_vocab()
        self._cells = frozenset(known[tag] for tag in ("<td>", "</td>") if tag in known)
        blank = {known[tag] for tag in ("<td>", "</td>", "<tr>", "</tr>") if tag in known}
        for text in ("\n", " "):
            blank.update(self._tokenizer.encode(text, add_special_tokens=False))
        self._blank = frozenset(blank)

    def prepare(self, page: PageImage, resolution: str) -> Views:
        """The views of a page."""
        return cut_views(read_page(page.path, page.width, page.height), self._kind, resolution)

    def prompts(self, model: Any, prepared: Sequence[Views], options: ReadOptions) -> list[Prompt]:
        """The pages and their question, each picture's vectors in the place of the placeholders."""
        question = prompt_for(options, self._checkpoint)
        table = model.model.language_model.embed_tokens
        whole = np.stack([views.whole for views in prepared])
        arguments: dict[str, Any] = {"pixel_values": normalised(whole, self._kind, table.weight)}
        tiles = [views.tiles for views in prepared if views.tiles is not None]
        if tiles:
            arguments["pixel_values_local"] = normalised(np.concatenate(tiles), self._kind, table.weight)
            arguments["num_local_patches"] = [0 if v.tiles is None else len(v.tiles) for v in prepared]
            if self._kind != "v2":
                arguments["patches_grid"] = [list(views.grid) for views in prepared]
        pictures = model.model.get_image_features(**arguments, return_dict=True).pooler_output
        found = []
        for views, seen in zip(prepared, pictures, strict=True):
            ids = encode_prompt(self._tokenizer, question, views.placeholders, self._gap)
            found.append(Prompt(_with_picture(table, ids, 1, seen, views.placeholders)))
        return found

    def guard(self) -> LoopGuard:
        """For one text."""
        return LoopGuard(self._cells, self._blank, self._checkpoint.row.ngram)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, tags and all."""
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text


def _with_picture(table: Any, ids: Sequence[int], start: int, seen: torch.Tensor, placeholders: int) -> torch.Tensor:
    """The prompt as vectors, `(tokens, size)`, the picture's from `start` on."""
    if len(seen) != placeholders:
        raise RuntimeError(f"the model saw {len(seen)} vectors where {placeholders} were expected")
    vectors: torch.Tensor = table(torch.tensor(ids, device=table.weight.device))
    vectors[start : start + len(seen)] = seen.to(vectors.dtype)
    return vectors


# -- models with an image processor and a chat template


def levels_of(pictures: Any) -> torch.Tensor:
    """`(3, 256)`: the levels of each colour as an image processor of transformers gives them to the model.

    Its own arithmetic makes them, so that bytes may travel to the card, not floats.

    Args:
        pictures: a `transformers` image processor of the kind that works with NumPy.
    """
    levels: Any = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None], (3, 256, 1)).copy()
    if pictures.do_rescale:
        levels = pictures.rescale(image=levels, scale=pictures.rescale_factor)
    if pictures.do_normalize:
        levels = pictures.normalize(image=levels, mean=pictures.image_mean, std=pictures.image_std)
    return torch.as_tensor(np.asarray(levels, dtype=np.float32)).reshape(3, 256)


def coloured(numbers: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """Pixels of 8 bits as a model takes them, in their own shape.

    Args:
        numbers: `(pictures or patches, …)`, where each has its red, then its green, then its blue values.
        levels: `(3, 256)`, of the device and dtype of the model; see `levels_of`.
    """
    colours = numbers.view(len(numbers), 3, -1).int()
    colours += 256 * torch.arange(3, dtype=torch.int32, device=numbers.device)[:, None]
    return levels.reshape(-1).index_select(0, colours.view(-1)).view(numbers.shape)


class NativePrompts:
    """See `PromptMaker`."""

    window = 0

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._tokenizer = checkpoint.tokenizer
        config = checkpoint.config
        self._image: int = config.image_token_id
        vision = config.vision_config
        merge = getattr(vision, "spatial_merge_size", None) or config.spatial_merge_size
        self._patch: int = vision.patch_size * merge
        kind = getattr(transformers, checkpoint.row.image_processor)
        try:
            self._pictures: Any = kind.from_pretrained(checkpoint.path, local_files_only=True)
        except (OSError, ValueError, TypeError) as exc:
            raise EngineUnavailable(
                f"{checkpoint.path} does not say how its pictures are cut: it has no usable preprocessor_config.json.",
                remedy="Fetch the model again with: deepseek-ocr-mcp download",
            ) from exc
        self._levels = levels_of(self._pictures)
        self.longest = self._most_pixels("auto") // self._patch**2 + 100  # the picture, and a question
        blank = {token for text in BLANK_PIECES for token in self._tokenizer.encode(text, add_special_tokens=False)}
        self._blank = frozenset(blank)

    @property
    def _has_longest_edge(self) -> bool:
        """Whether the image processor is asked for a longer side, not for an area."""
        return "shortest_edge" not in dict(self._pictures.size)

    def _most_pixels(self, resolution: str) -> int:
        """The largest area of a picture."""
        edge, row_edge = RESOLUTIONS[resolution], self._checkpoint.row.edge
        frames = self._checkpoint.row.frames
        area = 1 << 40 if self._has_longest_edge else int(dict(self._pictures.size)["longest_edge"]) // frames
        return min([area, *(side**2 for side in (edge, row_edge) if side)])

    def prepare(self, page: PageImage, resolution: str) -> dict[str, Any]:
        """The arguments of `get_image_features` for a page, on the host, with pixels of 8 bits."""
        image: Image.Image = read_page(page.path, page.width, page.height)
        most = self._most_pixels(resolution)
        if self._has_longest_edge:
            size = {"longest_edge": int(most**0.5)}
        else:
            most *= self._checkpoint.row.frames
            size = {"shortest_edge": min(most, int(dict(self._pictures.size)["shortest_edge"])), "longest_edge": most}
        as_levels = {"do_rescale": False, "do_normalize": False}
        prepared: dict[str, Any] = dict(self._pictures(image, size=size, return_tensors="pt", **as_levels))
        return prepared | {"pixel_values": prepared["pixel_values"].to(torch.uint8)}

    def prompts(self, model: Any, prepared: Sequence[dict[str, Any]], options: ReadOptions) -> list[Prompt]:
        """The pages and their question; one after the other, because no two pictures need be of a size."""
        return [self._prompt(model, each, options) for each in prepared]

    def _prompt(self, model: Any, prepared: dict[str, Any], options: ReadOptions) -> Prompt:
        """The page and its question, the picture's vectors in the place of the placeholders."""
        table = model.model.language_model.embed_tokens
        device, dtype = table.weight.device, table.weight.dtype
        grid = prepared.get("image_grid_thw")
        pixels = coloured(prepared["pixel_values"].to(device), self._levels.to(device, dtype))
        arguments: dict[str, Any] = {"pixel_values": pixels}
        if grid is None:
            arguments["image_sizes"] = [tuple(map(int, size)) for size in prepared["image_sizes"]]
        else:
            arguments["image_grid_thw"] = grid.to(device)
        (seen,) = model.model.get_image_features(**arguments, return_dict=True).pooler_output
        ids, start = self.encode(options, len(seen))
        vectors = _with_picture(table, ids, start, seen, len(seen))
        return Prompt(vectors, None if grid is None else self._positions(model, ids, grid.to(device)))

    def encode(self, options: ReadOptions, placeholders: int) -> tuple[list[int], int]:
        """Token ids of the chat with one placeholder for each vector of the picture; and the place of the first.

        Raises:
            EngineUnavailable: the chat template has no place for one picture.
        """
        content: list[dict[str, str]] = [{"type": "image"}]
        if question := prompt_for(options, self._checkpoint):
            content.append({"type": "text", "text": question})
        chat: str = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            tokenize=False,
            add_generation_prompt=True,
            **self._checkpoint.row.chat,
        )
        ids: list[int] = self._tokenizer.encode(chat, add_special_tokens=False)
        if ids.count(self._image) != 1:
            raise EngineUnavailable(
                f"The chat template in {self._checkpoint.path} has {ids.count(self._image)} places for a picture.",
                remedy="Fetch the model again with: deepseek-ocr-mcp download",
            )
        start = ids.index(self._image)
        return [*ids[:start], *[self._image] * placeholders, *ids[start + 1 :]], start

    def _positions(self, model: Any, ids: Sequence[int], grid: torch.Tensor) -> torch.Tensor:
        """`(3, tokens)`: where each token stands in time, from the top and from the left."""
        tokens = torch.tensor([ids], device=grid.device)
        kinds = (tokens == self._image).int()
        places, _ = model.model.get_rope_index(tokens, mm_token_type_ids=kinds, image_grid_thw=grid)
        found: torch.Tensor = places[:, 0]
        return found

    def guard(self) -> LoopGuard:
        """For one text."""
        return LoopGuard(blank=self._blank, ngram=self._checkpoint.row.ngram)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without special ones."""
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text
