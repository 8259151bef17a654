"""Writes one HTML file that loads nothing and runs nothing: headings, paragraphs, lists and tables."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from .elements import ExportElement, PlacedCell, StyledRun, elements_of, placed_cells, xml_text

__all__ = ["html_document"]

MAX_COLUMNS: Final = 1000  # browsers take no more in `colspan`
TAGS: Final = {
    "bold": "b", "italic": "i", "underline": "u", "strike": "s", "superscript": "sup", "subscript": "sub",
    "code": "code",
}  # fmt: skip
STYLE: Final = (
    "body{max-width:50em;margin:2em auto;padding:0 1em;font-family:sans-serif;line-height:1.4}"
    "section+section{border-top:1px solid #999;margin-top:2em;padding-top:1em}"
    "table{border-collapse:collapse}td,th{border:1px solid #999;padding:.2em .5em;text-align:start;vertical-align:top}"
    "pre{white-space:pre-wrap}p{white-space:pre-line}"
)


def html_document(pages: Sequence[Mapping[str, Any]], title: str, mode: str) -> bytes:
    """An HTML document with a `<section>` for each page.

    Args:
        pages: with `page` and `text`.
        title: of the document; may be empty.
        mode: the mode that the pages were read in.
    """
    lines = [
        "<!DOCTYPE html>",
        '<html><head><meta charset="utf-8">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(xml_text(title)) or 'Document'}</title>",
        f"<style>{STYLE}</style></head><body>",
    ]
    for place, page in enumerate(pages, start=1):
        lines.append(f'<section id="page-{int(page.get("page") or place)}">')
        lines += _body(elements_of(page, mode))
        lines.append("</section>")
    return "\n".join([*lines, "</body></html>", ""]).encode()


def _body(elements: Sequence[ExportElement]) -> Iterator[str]:
    for is_item, group in groupby(elements, key=lambda element: element.kind in ("bullet", "number")):
        if is_item:
            yield from _lists(list(group))
            continue
        for element in group:
            match element.kind:
                case "table":
                    yield from _table(element)
                case "heading":
                    yield f'<h{element.level} dir="auto">{_inline(element.runs)}</h{element.level}>'
                case "code":
                    yield f"<pre>{html.escape(''.join(run.text for run in element.runs))}</pre>"
                case "quote":
                    yield f'<blockquote><p dir="auto">{_inline(element.runs)}</p></blockquote>'
                case _:
                    yield f'<p dir="auto">{_inline(element.runs)}</p>'


def _lists(items: Sequence[ExportElement]) -> Iterator[str]:
    """Lists within lists. An item keeps the number that was printed."""
    open_lists: list[str] = []
    for item in items:
        tag = "ol" if item.kind == "number" else "ul"
        while len(open_lists) > item.level:
            yield f"</li></{open_lists.pop()}>"
        if len(open_lists) == item.level and open_lists[-1] != tag:
            yield f"</li></{open_lists.pop()}>"
        elif len(open_lists) == item.level:
            yield "</li>"
        while len(open_lists) < item.level:
            open_lists.append(tag)
            yield f"<{tag}>" if len(open_lists) == item.level else f"<{tag}><li>"
        number = item.mark.rstrip(".)")
        value = f' value="{int(number)}"' if number.isdecimal() else ""
        yield f'<li dir="auto"{value}>{_inline(item.runs)}'
    while open_lists:
        yield f"</li></{open_lists.pop()}>"


def _table(element: ExportElement) -> Iterator[str]:
    yield "<table>"
    rows: list[list[PlacedCell]] = [[] for _ in element.rows]
    for place in placed_cells(element.rows, MAX_COLUMNS):
        rows[place.row].append(place)
    for row in rows:
        cells = []
        for place in row:
            tag = "th" if place.cell.is_heading else "td"
            spans = f' rowspan="{place.rows}"' if place.rows > 1 else ""
            spans += f' colspan="{place.columns}"' if place.columns > 1 else ""
            cells.append(f'<{tag} dir="auto"{spans}>{_inline(place.cell.runs)}</{tag}>')
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</table>"


def _inline(runs: Sequence[StyledRun]) -> str:
    parts = []
    for run in runs:
        if run.text == "\n":
            parts.append("<br>")
            continue
        text = html.escape(run.text, quote=False)
        for style in sorted(run.styles):
            text = f"<{TAGS[style]}>{text}</{TAGS[style]}>"
        parts.append(text)
    return "".join(parts)
