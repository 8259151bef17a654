"""QR codes and barcodes of a page: their content joins the text, and each is a block (`OCR_BARCODES`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from ..models import Block, Page
from ..modes import MODES

__all__ = ["Code", "codes_note", "shown_codes", "with_codes"]

SQUARES: Final = ("QR", "Micro QR", "rMQR")
"""How the names of QR codes of all kinds begin."""


@dataclass(frozen=True, slots=True)
class Code:
    """A code that was read."""

    symbology: str
    """Its kind, as the standards name it: `QR Code`, `EAN-13`, `Data Matrix`."""
    text: str
    box: tuple[int, int, int, int]

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """The code that a decoder describes.

        Raises:
            ValueError, KeyError, TypeError: the fields describe no code. They come from a child, which is not trusted.
        """
        left, top, right, bottom = map(int, fields["box"])
        return cls(str(fields["symbology"]), str(fields["text"]), (left, top, right, bottom))

    @property
    def label(self) -> str:
        """The label of its block."""
        return "qr_code" if self.symbology.startswith(SQUARES) else "barcode"

    @property
    def line(self) -> str:
        """The code's text on one line, after its kind. Line breaks and control characters become spaces."""
        printable = "".join(char if char.isprintable() else " " for char in self.text)
        return f"{self.symbology}: {' '.join(printable.split())}"


def shown_codes(codes: Sequence[Code], mode: str, find_term: str) -> Sequence[Code]:
    """The codes that a mode shows: in mode `find` the codes that hold the term, in other modes all codes.

    Args:
        codes: the codes on a page.
        mode: the mode of the request.
        find_term: the term of a search.

    Raises:
        BadRequest: the search took too long.
    """
    return _with_term(codes, find_term) if mode == "find" else codes


def with_codes(page: Page, codes: Sequence[Code], mode: str) -> Page:
    """The page with these codes: each is a block, and a line of the text where the mode gives the page's text alone.

    Args:
        page: the page.
        codes: the codes to add.
        mode: the mode of the request.
    """
    if not codes:
        return page
    blocks = [Block(label=code.label, text=code.text, box=list(code.box)) for code in codes]
    text = page.text
    if MODES[mode].text_alone:
        between = "\n\n" if MODES[mode].is_markdown else "\n"
        text = between.join([text] * bool(text) + [_written(code, mode) for code in codes])
    return page.model_copy(update={"text": text, "blocks": [*(page.blocks or ()), *blocks]})


def codes_note(codes: Iterable[Code], mode: str) -> str:
    """The sentence on the codes that a mode shows of a page."""
    names = ", ".join(dict.fromkeys(code.symbology for code in codes))
    where = "their content stands at the end of the page's text" if MODES[mode].text_alone else "each is a block"
    return f"Codes were read beside the text ({names}); {where}."


def _written(code: Code, mode: str) -> str:
    if not MODES[mode].is_markdown:
        return code.line
    from ..layout.escape import escape_block  # a server starts without layout

    return escape_block(code.line)


def _with_term(codes: Sequence[Code], term: str) -> list[Code]:
    from ..layout.find import occurs, terms_of
    from .search import term_errors

    with term_errors():
        return [code for code in codes if any(occurs(each, code.text) for each in terms_of(term))]
