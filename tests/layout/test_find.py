"""Finding words and sequences of words in recognised lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deepseek_ocr_mcp.layout.find import find_term
from deepseek_ocr_mcp.layout.lines import TextLine


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


def test_spans_lie_in_the_spaces_around_the_words() -> None:
    [hit] = find_term(page("one two three"), "two")
    [span] = hit.spans
    assert (round(span.begin * 130), round(span.end * 130)) == (35, 75)


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
            assert 0 <= span.begin <= span.end <= 1
