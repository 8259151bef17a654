"""The terms of a search are checked before a page is read, and named where they are not found."""

from __future__ import annotations

import pytest

from deepseek_ocr_mcp.engines import KNOWN, EngineSpec
from deepseek_ocr_mcp.errors import BadRequest
from deepseek_ocr_mcp.models import OcrRequest
from deepseek_ocr_mcp.modes import MODES
from deepseek_ocr_mcp.service.search import check_term, missing_terms, not_found

OWN = EngineSpec("Mine", "mine:Mine", frozenset(MODES))


def request(term: object) -> OcrRequest:
    return OcrRequest(image="/a.png", find_term=term)  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["deepseek", "openai"])
def test_a_model_that_sees_pictures_is_asked_for_words_alone(engine: str) -> None:
    check_term(request("Total due"), KNOWN[engine])
    for term in (["Total", "Sum"], r"/\bTotal\b/"):
        with pytest.raises(BadRequest, match="one sequence of words") as caught:
            check_term(request(term), KNOWN[engine])
        assert "Call once for each" in caught.value.remedy


@pytest.mark.parametrize("engine", [KNOWN["rapidocr"], KNOWN["tesseract"], OWN])
def test_engines_of_lines_find_lists_and_patterns(engine: EngineSpec) -> None:
    for term in ("Total", ["Total", "Sum"], r"/\bTotal\b/"):
        check_term(request(term), engine)
    with pytest.raises(BadRequest, match="no pattern"):
        check_term(request("/(/"), engine)


def test_the_sentence_about_a_term_names_it_and_says_how_to_search_for_a_pattern() -> None:
    assert not_found("Total") == "'Total' was not found."
    assert not_found('["a", "b"]') == "None of 'a', 'b' was found."
    assert not_found(str([str(n) for n in range(8)]).replace("'", '"')).endswith("and 3 more was found.")
    assert not_found("INV-.*").endswith("write it between slashes: /INV-.*/.")


def test_of_a_list_the_terms_that_stand_nowhere_are_named() -> None:
    rows = ["Total 12.50", "Grand para-\ngraph"]
    assert missing_terms('["total", "paragraph"]', rows) == ""
    assert missing_terms('["total", "zebra"]', rows) == "'zebra' was not found."
    assert missing_terms('["x1", "total", "/z\\\\d/"]', rows) == "'x1', '/z\\\\d/' were not found."
    assert missing_terms("zebra", rows) == missing_terms('["a", "b"]', []) == "", (
        "pages without hits have their own note"
    )
