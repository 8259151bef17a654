"""Characters of the page that look like markup come out of a Markdown reader as they were printed."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from deepseek_ocr_mcp.layout.escape import escape_block, escape_cell, escape_inline

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def shown(tokens: list[Token]) -> str:
    """The text that a reader shows; what is markup adds its own name, so that it never equals plain text."""
    parts = []
    for token in tokens:
        if token.type == "inline":
            parts.append(shown(token.children or []))
        elif token.type == "text":
            parts.append(token.content)
        elif token.type == "softbreak":
            parts.append("\n")
        elif token.type not in ("paragraph_open", "paragraph_close"):
            parts.append(f"<{token.type}>")
    return "".join(parts)


def paragraph(text: str) -> str:
    return shown(READER.parse(escape_block(text)))


PRINTED = (
    "# 1",
    "__init__",
    "<b>bold</b> and </b>",
    "~~12~~ 10",
    "[a](http://b)",
    "![figure](a.png)",
    "1. first",
    "- dash",
    "+ plus",
    "* star * star",
    "2*3*4 = 24",
    "> quoted",
    "=====",
    "---",
    "***",
    "a | b\n--- | ---",
    "| a |\n|---|",
    "a|\n-|\nb",
    "a |\n-:",
    "_a\nb\n___",
    "```python",
    "~~~",
    "`x` and `y`",
    "``#`#``",
    "a`b\n```c",
    "&amp; &#35; AT&T",
    "C:\\*.txt \\_ a\\",
    "[1]: http://example.org",
    "[x][y]",
    "text\n1. one",
    "text\n2. two",
    "snake_case_name and _private_",
    "**bold** text",
    "<!-- note -->",
    "<http://example.org>",
    "a\n---",
    "a\n===",
)


@pytest.mark.parametrize("text", PRINTED)
def test_what_looks_like_markup_is_shown_as_printed(text: str) -> None:
    assert paragraph(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "snake_case_name",
        "5 * 3 = 15",
        "a < b and c > d",
        "AT&T, R&D",
        "Total: 12 | 13",
        "(1) see page 4 - or 5",
        "1874. was a year",
        "a - b",
        "No. 1 # 2",
        "[draft] (see below)",
        "~5 km",
        "C:\\temp\\file",
        "100 %, +3, -4",
        "e-mail_address@example.org",
    ],
)
def test_nothing_is_escaped_where_nothing_would_be_markup(text: str) -> None:
    assert escape_block(f"So {text}") == f"So {text}"


def test_a_heading_keeps_its_number_signs() -> None:
    text = "C # and F #"
    tokens = READER.parse("# " + escape_inline(text, heading=True))
    assert shown(tokens) == f"<heading_open>{text}<heading_close>"


def test_a_cell_keeps_its_bars() -> None:
    tokens = READER.parse(f"| {escape_cell('a|b `c|d`')} | x |\n| --- | --- |")
    assert "a|b `c|d`" in shown(tokens)


nasty = st.text(st.sampled_from(list("ab1 \n#*_~`<>[]()!|\\&;:-+=./\"'")), max_size=24)


@settings(max_examples=400, deadline=None)
@given(nasty)
@example("[0\\]: x")
@example("1<!a<>")
@example("a ` b `` c ` d")
def test_any_text_is_shown_as_printed(text: str) -> None:
    lines = [" ".join(line.split()) for line in text.split("\n")]
    text = "\n".join(line for line in lines if line)
    assert paragraph(text) == text


@settings(max_examples=300, deadline=None)
@given(nasty)
def test_any_heading_and_any_cell_is_shown_as_printed(text: str) -> None:
    text = " ".join(text.split())
    heading = shown(READER.parse("## " + escape_inline(text, heading=True)))
    assert heading == f"<heading_open>{text}<heading_close>"
    table = shown(READER.parse(f"| {escape_cell(text)} | end |\n| --- | --- |"))
    assert table.replace("<th_open>", "").replace("<th_close>", "|").removeprefix(
        "<table_open><thead_open><tr_open>"
    ) == (f"{text}|end|<tr_close><thead_close><table_close>")
