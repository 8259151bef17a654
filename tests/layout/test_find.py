"""Finding words and sequences of words in recognised lines."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek_ocr_mcp.layout.find import BadTerm, SlowPattern, as_pattern_hint, compiled, find_term
from deepseek_ocr_mcp.layout.lines import TextLine, edge_of


def page(*rows: str) -> list[TextLine]:
    """Rows of characters that are ten pixels wide, twenty pixels apart."""
    return [
        TextLine(
            row,
            (0.0, 20.0 * n, 10.0 * len(row), 20.0 * n + 14),
            1.0,
            tuple((c + 0.5) / len(row) for c in range(len(row))),
        )
        for n, row in enumerate(rows)
    ]


def found(lines: list[TextLine], term: str) -> list[list[str]]:
    return [[lines[span.line].text[span.start : span.stop] for span in hit.spans] for hit in find_term(lines, term)]


def test_every_place_of_a_word_is_found() -> None:
    assert found(page("the cat sat", "on the mat"), "the") == [["the"], ["the"]]


def test_case_accents_width_and_quotes_do_not_count() -> None:
    lines = page("Ｃａｆé “Müller’s”", "STRASSE")
    assert found(lines, "cafe") == [["Ｃａｆé"]]
    assert found(lines, "MULLER's") == [["Müller’s"]]
    assert found(lines, "straße") == [["STRASSE"]]


def test_a_sequence_of_words_may_run_over_a_line_break() -> None:
    assert found(page("a quick brown", "fox jumps"), "brown  fox") == [["brown", "fox"]]


def test_a_hyphenated_word_is_found_whole() -> None:
    assert found(page("a long para-", "graph here"), "paragraph") == [["para", "graph"]]


def test_spaces_that_recognition_dropped_are_forgiven() -> None:
    assert found(page("working day.No more"), "day. No") == [["day.No"]]


def test_a_space_that_is_there_is_not_ignored_while_there_is_an_exact_hit() -> None:
    assert found(page("therapist", "the rapist"), "the rapist") == [["the rapist"]]


def test_the_edges_of_a_word_lie_in_the_spaces_around_it() -> None:
    lines = page("one two three")
    [hit] = find_term(lines, "two")
    [span] = hit.spans
    assert [round(edge_of(lines[0], at) * 130) for at in (span.start, span.stop)] == [35, 75]


def test_an_absent_or_empty_term_is_found_nowhere() -> None:
    assert find_term(page("one two"), "four") == []
    assert find_term(page("one two"), " ") == []
    assert find_term([], "one") == []


def test_marks_that_mean_something_to_a_pattern_are_taken_as_they_are() -> None:
    assert found(page("costs $4.50 (net)", "4x50"), "4.50 (") == [["4.50 ("]]


@given(st.lists(st.text(max_size=20), max_size=8), st.text(max_size=12))
def test_finding_never_fails_and_spans_are_inside_their_lines(rows: list[str], term: str) -> None:
    lines = page(*rows)
    for hit in find_term(lines, term):
        for span in hit.spans:
            assert 0 <= span.start < span.stop <= len(lines[span.line].text)
            assert 0 <= edge_of(lines[span.line], span.start) <= edge_of(lines[span.line], span.stop) <= 1


# -- patterns and lists


@pytest.mark.parametrize(
    ("term", "fault"),
    [("/[a-z/", "has no ]"), ("/INV-[0-9+/i", "has no ]"), (r"/total\/", "escapes the slash"), (r"/a[\]/", "has no ]")],
)
def test_a_pattern_that_does_not_end_is_refused_with_its_fault(term: str, fault: str) -> None:
    with pytest.raises(BadTerm, match="is no pattern: .*" + re.escape(fault)):
        compiled(term)


@pytest.mark.parametrize("term", ["/usr/share/doc/", "a/b", "/etc/[old]/x", "and/or", "/", "//", "[/]"])
def test_words_with_slashes_are_words(term: str) -> None:
    assert compiled(term).is_plain or not compiled(term).parts


def test_a_pattern_stands_between_slashes() -> None:
    lines = page("Invoice INV-2041", "see inv–7 and INV–x")
    assert found(lines, r"/INV-\d+/") == [["INV-2041"], ["inv–7"]]
    assert found(lines, r"/^see/") == [["see"]]
    assert found(lines, r"/\d+$/g") == [["2041"]]


def test_a_pattern_finds_whole_words_in_any_script() -> None:
    lines = page("Subtotal 1, Total 2", "Übungen, Übung", "ＴＯＴＡＬ")
    assert found(lines, r"/\bTotal\b/") == [["Total"], ["ＴＯＴＡＬ"]]
    assert found(lines, r"/\bÜbung\b/") == [["Übung"]]


def test_a_space_in_a_pattern_may_be_the_end_of_a_line() -> None:
    assert found(page("the amount", "due 12.50"), r"/amount due [\d.]+/") == [["amount", "due 12.50"]]


def test_signs_of_one_shape_on_the_page_and_in_a_pattern_are_the_same() -> None:
    assert found(page("a – b", "5 … 6", "（x）"), "/a – b/") == [["a – b"]]
    assert found(page("5 … 6", "5 abc 6"), "/5 … 6/") == [["5 … 6"]]
    assert found(page("（x）"), r"/（x）/") == [["（x）"]]
    assert found(page("a–b", "a_b"), "/a[–_]b/") == [["a–b"], ["a_b"]]


def test_a_brace_that_counts_nothing_is_a_brace() -> None:
    assert found(page("{e} and {1}"), "/{e}/") == [["{e}"]]
    assert found(page("aab ab"), "/a{2}b/") == [["aab"]]
    assert found(page("$[{] 1"), "/[{]/") == [["{"]]


@pytest.mark.parametrize("term", ["/home/me/scan.pdf", "/usr/lib/", "1/2", "/", "//", "and/or", "/no\\"])
def test_a_path_is_no_pattern(term: str) -> None:
    assert found(page(f"see {term} there"), term) == [[term]]


def test_any_term_of_a_list_is_found_in_reading_order_without_overlaps() -> None:
    lines = page("sum 4417", "total INV-1", "total sum")
    for term in (["total", "sum", r"/INV-\d/"], '["total", "sum", "/INV-\\\\d/"]'):
        hits = find_term(lines, term)
        assert [hit.term for hit in hits] == ["sum", "total", r"/INV-\d/", "total", "sum"]
    assert [[span.start for span in hit.spans] for hit in find_term(page("grand total"), ["total", "grand total"])] == [
        [0]
    ]


def test_quotes_around_a_term_are_not_part_of_it() -> None:
    lines = page('Ticket 4417, "x" and "y"')
    assert found(lines, '"4417"') == found(lines, "“4417”") == [["4417"]]
    assert found(lines, '"x" and "y"') == [['"x" and "y"']]
    assert found(lines, '"') == [['"']] * 4


@pytest.mark.parametrize(
    ("term", "words"),
    [
        ("/(/", "no pattern"),
        ("/*a/", "no pattern"),
        ("/(?R)a/", "calls itself"),
        ("/(a(?1)?)/", "calls itself"),
        ("/((a{9}){99}){99}/", "too often"),
        ("/" + "(" * 900 + ")" * 900 + "/", "no pattern"),
        ("x" * 3000, "2000"),
        ([str(n) for n in range(80)], "80 terms"),
    ],
)
def test_a_term_that_cannot_be_searched_for_says_why(term: str | list[str], words: str) -> None:
    with pytest.raises(BadTerm, match=words):
        compiled(term)


HOSTILE = (r"/((a*)*)*b/", r"/(a+)(?=\1+b)/", r"/(.+)\1\1\1b/", r"/(a*?a*?)*?b/", r"/(?b)(.*a.*b){e}/")


@pytest.mark.parametrize("term", HOSTILE)
def test_a_hostile_pattern_costs_a_moment_once(term: str) -> None:
    lines = page("a" * 20_000, "aaaa bbb " * 1000)
    compiled(term)
    began = time.process_time()
    for _ in range(5):
        with pytest.raises(SlowPattern):
            find_term(lines, term)
    assert time.process_time() - began < 5, "0.2 s, and little for each further page; without an end otherwise"


@pytest.mark.parametrize("term", ["/" + "[a]" * 600, "/" + "\\\\" * 900, "/" + "[" * 1900, "a" * 1900 + "\n*" * 40])
def test_it_takes_no_time_to_see_what_a_term_is(term: str) -> None:
    began = time.process_time()
    compiled(term)
    as_pattern_hint(term)
    assert time.process_time() - began < 5, "a term that runs away takes minutes"


def test_an_ordinary_pattern_does_not_run_out_of_time_on_many_pages() -> None:
    lines = page(*["The invoice INV-2041 of 2024-05-06 is over 1,234.50 EUR, thank you"] * 60)
    assert all(len(find_term(lines, r"/\b\d{4}-\d\d-\d\d\b/")) == 60 for _ in range(150))


def test_a_term_that_looks_like_a_pattern_gets_a_hint() -> None:
    for term in (r"INV-\d+", "total|sum", "INV.*", "[A-Z]+1", "(?i)total"):
        assert f"/{term}/" in as_pattern_hint(term)
    for term in ("Total (net)", "4.50", "a-b", r"/INV-\d+/", "[draft]", "What?", "C:\\files", "5 + 3"):
        assert as_pattern_hint(term) == "", term


@pytest.mark.parametrize(
    ("rows", "term", "parts"),
    [
        (("from a well-", "known supplier"), "well-known", ["well-", "known"]),
        (("from a well-", "known supplier"), r"/\bwell-known\b/", ["well-", "known"]),
        (("from a well-", "known supplier"), "wellknown", ["well", "known"]),
        (("invoice INV-", "20417 of May"), r"/INV-\d+/", ["INV-", "20417"]),
        (("明日は晴", "れです。"), "/晴れ/", ["晴", "れ"]),
    ],
)
def test_a_word_that_is_divided_behind_its_own_hyphen_is_found(
    rows: tuple[str, ...], term: str, parts: list[str]
) -> None:
    assert found(page(*rows), term) == [parts]


@pytest.mark.parametrize("term", ["\u200ftotal", "to\u00adtal", "total\ufeff", "\u2066total\u2069"], ids=ascii)
def test_marks_that_nobody_sees_do_not_count(term: str) -> None:
    assert found(page("The total is 5"), term) == [["total"]]
