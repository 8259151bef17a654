"""The formats of files beside Word and PDF: what is printed comes out as printed, structure stays, nothing runs."""

from __future__ import annotations

import contextlib
import csv
import io
import re
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepseek_ocr_mcp.decoder.exports.elements import elements_of, run_text
from deepseek_ocr_mcp.decoder.exports.word import word_document
from deepseek_ocr_mcp.decoder.exports.writers import written
from deepseek_ocr_mcp.errors import BadRequest
from deepseek_ocr_mcp.export_formats import EXPORT_FORMATS, EXPORT_SUFFIXES, ExportOptions, export_format
from deepseek_ocr_mcp.layout.escape import escape_block, escape_cell, escape_inline

ALTO = "{http://www.loc.gov/standards/alto/ns-v4#}"
XHTML = "{http://www.w3.org/1999/xhtml}"
PRINTED = [
    "# 1",
    "__init__",
    "<b>",
    "~~12~~",
    "[a](http://b)",
    "![a](http://b)",
    "[a]: http://b",
    "$$ 5 $$",
    "<http://a.example>",
    "&amp; &#65;",
    "\\(x\\) and \\[y\\]",
    "C:\\*.txt",
    "1. one",
    "- dash",
    "> said",
    "```",
    "``#`#``",
    "a`b\n```c",
    "*a* **b** `c`",
    "***",
    "<!-- figure 1 -->",
    "<table><tr><td>",
    "| a | b |",
]
"""Characters on a page that look like markup."""


def page(text: str, *blocks: dict[str, Any], number: int = 1) -> dict[str, Any]:
    return {"page": number, "width": 1000, "height": 800, "text": text, "blocks": list(blocks)}


def file_of(name: str, *pages: dict[str, Any], mode: str = "document", title: str = "A title") -> bytes:
    return written(name, pages, ExportOptions(title, mode))


class TextOnly(HTMLParser):
    """The text of the body of an HTML document, and its tags."""

    def __init__(self, document: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(document.decode().partition("<body>")[2])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data)


def word_lines(text: str) -> list[str]:
    import docx

    return [line.text for line in docx.Document(io.BytesIO(word_document([page(text)], "", "document"))).paragraphs]


# -- the table of formats


@pytest.mark.parametrize(
    ("path", "name"),
    [("/a/b.PDF", "pdf"), ("x.markdown", "md"), ("x.htm", "html"), ("x.hocr", "hocr"), ("x.xml", "xml")],
)
def test_the_suffix_of_a_path_decides_its_format(path: str, name: str) -> None:
    known = export_format(path)
    assert known is not None
    assert known.name == name


def test_an_unknown_suffix_has_no_format_and_every_format_has_its_own_suffix() -> None:
    assert export_format("/a/b.exe") is export_format("/a/b") is None
    assert [export_format(f"a{suffix}") for suffix in EXPORT_SUFFIXES].count(None) == 0
    assert len(set(EXPORT_SUFFIXES)) == len(EXPORT_SUFFIXES)
    assert {known.suffix for known in EXPORT_FORMATS.values()} <= set(EXPORT_SUFFIXES)


def test_a_format_that_needs_the_document_is_not_made_of_pages_alone() -> None:
    with pytest.raises(BadRequest):
        file_of("pdf", page("x"))


def test_the_documentation_lists_every_format_by_its_suffixes() -> None:
    page_of_docs = (Path(__file__).parents[2] / "docs" / "exports.md").read_text()
    rows = re.findall(r"^\| (`\..*?) \| (.*?) \|", page_of_docs, re.MULTILINE)
    listed = {tuple(re.findall("`(.*?)`", suffixes)): title for suffixes, title in rows}
    assert list(listed) == [(known.suffix, *known.other_suffixes) for known in EXPORT_FORMATS.values()]


# -- text is text


@pytest.mark.parametrize("printed", PRINTED)
def test_what_is_printed_comes_out_as_printed(printed: str) -> None:
    text = escape_block(printed)
    assert file_of("txt", page(text)).decode().strip() == printed
    assert "".join(TextOnly(file_of("html", page(text))).texts).strip() == printed
    assert word_lines(text) == [printed]


@pytest.mark.parametrize("printed", [each for each in PRINTED if "\n" not in each])
def test_what_is_printed_in_headings_and_cells_comes_out_as_printed(printed: str) -> None:
    heading, cell = escape_inline(printed, heading=True), escape_cell(printed)
    [found, table] = elements_of(page(f"## {heading}\n\n| {cell} | b |\n| --- | --- |\n| 1 | {cell} |"), "document")
    assert (found.kind, found.level, run_text(found.runs)) == ("heading", 2, printed)
    assert [[run_text(cell.runs) for cell in row] for row in table.rows] == [[printed, "b"], ["1", printed]]


PIECES = [
    "#",
    "*",
    "**",
    "_",
    "__",
    "~~",
    "`",
    "<b>",
    "</b>",
    "[",
    "](",
    ")",
    "\\",
    "&lt;",
    "|",
    "1.",
    "-",
    ">",
    "$$",
    " ",
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*PIECES, "a", "Bc", "12"]), min_size=1, max_size=12).map("".join))
def test_whatever_is_printed_on_a_line_comes_out_as_printed(printed: str) -> None:
    if printed := " ".join(printed.split()):
        [element] = elements_of(page(escape_block(printed)), "document")
        assert run_text(element.runs) == printed


def test_plain_text_is_no_markdown_in_any_format() -> None:
    assert file_of("txt", page("# 12 *a*"), mode="ocr") == b"# 12 *a*\n"
    assert TextOnly(file_of("html", page("# 12 <b>a</b>"), mode="ocr")).texts == ["# 12 <b>a</b>"]


def test_plain_text_has_tabs_between_cells_and_the_numbers_of_its_lists() -> None:
    text = "# Head\n\n7. seven\n8. eight\n\n- a\n  - b\n\n| a | b |\n| --- | --- |\n| 1 | 2 |"
    assert file_of("txt", page(text), page("end")).decode() == (
        "Head\n\n7. seven\n8. eight\n- a\n  - b\n\na\tb\n1\t2\n\nend\n"
    )


# -- HTML


def test_html_keeps_structure_and_loads_nothing() -> None:
    text = (
        "# Head\n\nA **b** *c*\n\n- one\n  - two\n- three\n\n4. four\n\n| a |\n| --- |\n| 1 |\n\n"
        '<table><tr><td colspan="2">x</td></tr><tr><td>y</td><td>z</td></tr></table>\n\n'
        "<script>alert(1)</script> <img src=x onerror=alert(1)>"
    )
    document = file_of("html", page(text), title="</title><script>")
    found = TextOnly(document)
    expected = "section h1 p b i ul li ul li li ol li table tr th tr td table tr td tr td td p"
    assert " ".join(found.tags) == expected
    assert b"<script" not in document
    assert b"<img" not in document
    assert b'value="4"' in document
    assert b'colspan="2"' in document
    assert b"default-src 'none'" in document


# -- tables


def tables(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def table(*rows: str) -> str:
    return "\n".join([rows[0], "|" + " --- |" * (rows[0].count("|") - 1), *rows[1:]])


def test_csv_has_each_table_of_the_pages_and_its_spans_in_their_first_cell() -> None:
    html = '<table><tr><td rowspan="2">a</td><td colspan="2">b</td></tr><tr><td>c, d</td><td>"e"</td></tr></table>'
    data = file_of("csv", page(f"Words\n\n{table('| x | y |', '| 1 | 2 |')}"), page(html, number=2))
    assert data == b'x,y\r\n1,2\r\n\r\na,b,\r\n,"c, d","""e"""\r\n'
    assert file_of("csv", page(table("| é |", "| 1 |"))).startswith(b"\xef\xbb\xbf")  # Excel needs it to see the accent


@pytest.mark.parametrize("text", ["=1+2", "=cmd|' /C calc'!A0", "+49-30", "-1-1", "@SUM(A1)", "＝1+1", "-item", "+a"])
def test_a_cell_of_csv_is_never_a_formula(text: str) -> None:
    assert tables(file_of("csv", page(table("| a |", f"| {escape_cell(text)} |"))))[1] == [f"'{text}"]


@pytest.mark.parametrize("text", ["-5", "-5,00", "+3.5", "-", "—", "12 %", "a=b", "-12%"])
def test_a_cell_that_no_program_would_calculate_stays_as_it_is(text: str) -> None:
    assert tables(file_of("csv", page(table("| a |", f"| {escape_cell(text)} |"))))[1] == [text]


@pytest.mark.parametrize("name", ["csv", "xlsx"])
def test_pages_without_a_table_are_refused_as_tables(name: str) -> None:
    with pytest.raises(BadRequest, match="no table"):
        file_of(name, page("| a | b |"))


def cells(data: bytes, sheet: int = 1) -> dict[str, tuple[str, str, str]]:
    """Place to type, value and number format of the cells of a workbook."""
    main = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
    with zipfile.ZipFile(io.BytesIO(data)) as book:
        strings = ["".join(node.itertext()) for node in ElementTree.fromstring(book.read("xl/sharedStrings.xml"))]
        styles = ElementTree.fromstring(book.read("xl/styles.xml"))
        root = ElementTree.fromstring(book.read(f"xl/worksheets/sheet{sheet}.xml"))
    codes = {each.get("numFmtId"): each.get("formatCode", "") for each in styles.iter(f"{main}numFmt")}
    builtin = {"0": "General", "1": "0", "2": "0.00", "49": "@"}
    kinds = [
        codes.get(xf.get("numFmtId")) or builtin[xf.get("numFmtId") or "0"] for xf in styles.find(f"{main}cellXfs")
    ]  # type: ignore[union-attr]
    assert not list(root.iter(f"{main}f"))
    assert not list(root.iter(f"{main}hyperlink"))
    found = {}
    for cell in root.iter(f"{main}c"):
        value, kind = cell.findtext(f"{main}v"), cell.get("t", "n")
        if value is not None:
            text = strings[int(value)] if kind == "s" else value
            found[cell.get("r", "")] = (kind, text, kinds[int(cell.get("s", "0"))])
    return found


@pytest.mark.parametrize(
    ("text", "value", "look"),
    [
        ("12", "12", "0"),
        ("12.50", "12.5", "0.00"),
        ("-0.5", "-0.5", "0.0"),
        ("0", "0", "0"),
        ("123456789012345", "123456789012345", "0"),
    ],
)
def test_a_cell_of_a_workbook_is_a_number_where_nothing_is_lost(text: str, value: str, look: str) -> None:
    assert cells(file_of("xlsx", page(table("| a |", f"| {text} |"))))["A2"] == ("n", value, look)


@pytest.mark.parametrize(
    "text",
    ["007", "1,5", "1.234", "1 234", "+5", "1e5", "-0", "1234567890123456", "12 %", "3/4", "=1+2", "http://a.example",
     "١٢", "12.", ".5"],
)  # fmt: skip
def test_any_other_cell_of_a_workbook_stays_text(text: str) -> None:
    kind, value, look = cells(file_of("xlsx", page(table("| a |", f"| {escape_cell(text)} |"))))["A2"]
    assert (kind, value, look) == ("s", text, "@")


def test_a_point_is_no_decimal_point_in_a_table_of_decimal_commas() -> None:
    found = cells(file_of("xlsx", page(table("| a | b |", "| 12.05 | 1,50 |"))))
    assert found["A2"][:2] == ("s", "12.05")


def test_a_workbook_has_a_sheet_for_each_table_and_merges_what_spans() -> None:
    html = '<table><tr><td rowspan="2">a</td><td>b</td></tr><tr><td>2</td></tr></table>'
    data = file_of("xlsx", page(f"{html}\n\n{table('| x |', '| 1 |')}"), page(table("| y |", "| 3 |"), number=5))
    assert cells(data, 1)["B2"][:2] == ("n", "2")
    assert cells(data, 3)["A2"][:2] == ("n", "3")
    with zipfile.ZipFile(io.BytesIO(data)) as book:
        assert re.findall('<sheet name="(.*?)"', book.read("xl/workbook.xml").decode()) == [
            "Page 1",
            "Page 1, table 2",
            "Page 5",
        ]
        assert 'ref="A1:A2"' in book.read("xl/worksheets/sheet1.xml").decode()


def test_a_cell_that_excel_would_cut_is_refused_and_csv_takes_it() -> None:
    long = page(table("| a |", f"| {'x' * 40_000} |"))
    with pytest.raises(BadRequest, match="40000 characters"):
        file_of("xlsx", long)
    assert tables(file_of("csv", long))[1] == ["x" * 40_000]


# -- hOCR and ALTO

LINE = {
    "label": "line", "text": "Hello <b> wörld", "box": [100, 50, 400, 80], "score": 0.934,
    "words": [{"text": "Hello", "box": [100, 50, 190, 80]}, {"text": "<b>", "box": [210, 52, 250, 80]},
              {"text": "wörld", "box": [270, 50, 400, 80]}],
}  # fmt: skip
SIDEWAYS = {"label": "line", "text": "down wards", "box": [600, 100, 630, 300], "angle": 90}
FIGURE = {"label": "figure", "text": "", "box": [0, 400, 300, 700]}
COLUMN = {"label": "line", "text": "縦書き", "box": [800, 100, 830, 190], "vertical": True}


def properties(title: str) -> dict[str, list[str]]:
    return {name: values for name, *values in (part.split() for part in title.split(";"))}


def test_hocr_has_words_with_boxes_confidence_and_angles() -> None:
    root = ElementTree.fromstring(file_of("hocr", page("", LINE, SIDEWAYS, FIGURE, COLUMN), page("", number=4)))
    assert root.find(f".//{XHTML}meta[@name='ocr-system']") is not None
    classes: dict[str, list[ElementTree.Element]] = {}
    for node in root.iter():
        if name := node.get("class"):
            classes.setdefault(name, []).append(node)
    capabilities = root.find(f".//{XHTML}meta[@name='ocr-capabilities']")
    assert capabilities is not None
    assert set(classes) <= set(capabilities.get("content", "").split())
    assert [properties(node.get("title", ""))["ppageno"] for node in classes["ocr_page"]] == [["0"], ["3"]]
    first, sideways, column = classes["ocr_line"]
    assert "".join(first.itertext()) == "Hello <b> wörld"
    word = properties(classes["ocrx_word"][2].get("title", ""))
    assert word == {"bbox": ["270", "50", "400", "80"], "x_wconf": ["93"]}
    assert properties(sideways.get("title", ""))["textangle"] == ["270"]  # against the clock
    assert "textangle" not in column.get("title", "")
    assert "x_wconf" not in classes["ocrx_word"][3].get("title", "")
    assert len({node.get("id") for node in root.iter() if node.get("id")}) == len(
        [n for n in root.iter() if n.get("id")]
    )


CHILDREN = {
    "alto": ["Description", "Styles", "Tags", "ReadingOrder", "Layout"],
    "Description": ["MeasurementUnit", "sourceImageInformation", "OCRProcessing", "Processing"],
    "Layout": ["Page"],
    "Page": ["TopMargin", "LeftMargin", "RightMargin", "BottomMargin", "PrintSpace"],
    "PrintSpace": ["TextBlock", "Illustration", "GraphicalElement", "ComposedBlock"],
    "TextBlock": ["Shape", "TextLine"],
    "TextLine": ["Shape", "String", "SP", "HYP"],
}
"""The order of elements in the schema of ALTO 4.4; within PrintSpace and TextLine any order is allowed."""


def test_alto_has_words_with_boxes_and_the_order_of_its_schema() -> None:
    root = ElementTree.fromstring(file_of("xml", page("", LINE, SIDEWAYS, FIGURE, COLUMN), title='a "scan".png'))
    for node in root.iter():
        name = node.tag.removeprefix(ALTO)
        if name in CHILDREN:
            places = [CHILDREN[name].index(child.tag.removeprefix(ALTO)) for child in node]
            assert name in ("PrintSpace", "TextLine") or places == sorted(places)
    assert root.findtext(f".//{ALTO}fileName") == 'a "scan".png'
    strings = list(root.iter(f"{ALTO}String"))
    assert [node.get("CONTENT") for node in strings[:3]] == ["Hello", "<b>", "wörld"]
    assert {name: strings[2].get(name) for name in ("HPOS", "VPOS", "WIDTH", "HEIGHT", "WC")} == {
        "HPOS": "270", "VPOS": "50", "WIDTH": "130", "HEIGHT": "30", "WC": "0.934",
    }  # fmt: skip
    blocks = list(root.iter(f"{ALTO}TextBlock"))
    assert [block.get("ROTATION") for block in blocks] == [None, "270", None]
    assert len(list(root.iter(f"{ALTO}Illustration"))) == 1
    assert len(list(blocks[0].iter(f"{ALTO}SP"))) == 2
    assert strings[3].get("WC") is None


def test_words_without_boxes_share_the_line_in_the_direction_of_the_text() -> None:
    root = ElementTree.fromstring(file_of("xml", page("", SIDEWAYS, {**SIDEWAYS, "angle": 270})))
    places = [int(node.get("VPOS", "")) for node in root.iter(f"{ALTO}String")]
    assert places[0] == 100 < places[1]  # downwards
    assert places[2] > places[3] == 100  # upwards


@pytest.mark.parametrize("name", ["hocr", "xml"])
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(
            st.text(max_size=20),
            st.lists(st.integers(-1_000_000, 1_000_000), min_size=4, max_size=4),
            st.floats(-360, 720),
        ),
        max_size=4,
    )
)
def test_whatever_was_read_valid_xml_comes_of_it(name: str, found: list[tuple[str, list[int], float]]) -> None:
    blocks = [
        {"label": "line", "text": text, "box": box, "angle": angle, "words": [{"text": text, "box": box}]}
        for text, box, angle in found
    ]
    ElementTree.fromstring(file_of(name, page("", *blocks), title="\x00\ud800<"))


@pytest.mark.parametrize("name", ["html", "csv", "xlsx"])
def test_a_table_that_claims_to_be_endless_takes_neither_time_nor_memory(name: str) -> None:
    cell = '<td rowspan="1000" colspan="1000">x</td>'
    endless = page(f"<table>{f'<tr>{cell * 20}</tr>' * 150}</table>")
    if name in ("csv", "xlsx"):
        with pytest.raises(BadRequest, match="claims to have"):
            file_of(name, endless)
    else:
        assert len(file_of(name, endless)) < 1_000_000


def test_the_markup_of_a_model_is_no_word_and_printed_characters_are() -> None:
    title = {"label": "title", "text": "## A &lt; title", "box": [1, 2, 300, 40]}
    cells = {"label": "table", "text": "<table><tr><td>a</td><td>b</td></tr></table>", "box": [1, 50, 300, 90]}
    printed = {"label": "line", "text": "# <td> &lt;", "box": [1, 100, 300, 140]}
    root = ElementTree.fromstring(file_of("xml", page("", title, cells, printed)))
    words = [node.get("CONTENT") for node in root.iter(f"{ALTO}String")]
    assert words == ["A", "<", "title", "a", "b", "#", "<td>", "&lt;"]


TAGS = ["<table>", "<tr>", "<td rowspan=99999999>", "<td colspan='3'>", "</td>", "</table>", "<br>", "<!--", "<sup>"]
MARKS = ["| a | b |\n|--|--|\n", "- ", "1. ", "> ", "# ", "\n\n", "```", "\x00", "\ud800", "=1"]


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.one_of(st.text(max_size=20), st.sampled_from(TAGS + MARKS)), max_size=30).map("".join))
def test_whatever_a_model_wrote_files_come_of_it(text: str) -> None:
    for name in ("html", "txt", "md", "json"):
        file_of(name, page(text))
    for name in ("csv", "xlsx"):
        with contextlib.suppress(BadRequest):  # no table
            file_of(name, page(text))
