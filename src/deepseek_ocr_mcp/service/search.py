"""Checks the terms of a search before a page is read, and names the terms that were not found in notes.

`layout.find` describes the terms. This module imports layout, which a server needs only for its first search.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from ..engines import KNOWN, EngineSpec
from ..errors import BadRequest
from ..layout.find import BadTerm, as_pattern_hint, compiled, occurs, terms_of
from ..models import OcrRequest

__all__ = ["check_term", "missing_terms", "not_found", "term_errors"]

REMEDY: Final = 'Write find_term like "Total", ["Total", "Sum"] (any of them) or "/INV-\\d+/" (a pattern).'
MAX_NAMED: Final = 5  # terms that one sentence names


@contextmanager
def term_errors() -> Iterator[None]:
    """Turn the errors of a search into errors of the request.

    Raises:
        BadRequest: the term cannot be searched for, or the search took too long.
    """
    try:
        yield
    except BadTerm as exc:
        raise BadRequest(str(exc), remedy=REMEDY) from None


def check_term(request: OcrRequest, engine: EngineSpec) -> None:
    """Check the term of a search.

    Raises:
        BadRequest: the term is no pattern, or too long; or the engine is a vision-language model, which finds words
            only.
    """
    with term_errors():
        matcher = compiled(request.find_term)
    if not matcher.is_plain and engine.name in KNOWN and not engine.gives_lines:
        raise BadRequest(
            f"The engine {engine.name} finds one sequence of words at a time, no lists and no patterns.",
            remedy="Call once for each sequence of words; or read the text with mode document, and search in it.",
        )


def not_found(term: str) -> str:
    """The sentence about pages that do not hold a term."""
    terms = terms_of(term)
    hint = as_pattern_hint(term)
    if len(terms) == 1:
        return f"{terms[0]!r} was not found. {hint}".rstrip()
    return f"None of {_listed(terms)} was found. {hint}".rstrip()


def missing_terms(term: str, texts: Sequence[str]) -> str:
    """A sentence that names the terms of a list that were not found; empty if all were found.

    Args:
        term: the `find_term` of a request.
        texts: for each page with hits, the rows with the hits.
    """
    terms = terms_of(term)
    if len(terms) == 1 or not texts:
        return ""
    with term_errors():
        missing = [each for each in terms if not any(occurs(each, text) for text in texts)]
    if not missing:
        return ""
    return f"{_listed(missing)} {'was' if len(missing) == 1 else 'were'} not found."


def _listed(terms: Sequence[str]) -> str:
    more = f" and {len(terms) - MAX_NAMED} more" if len(terms) > MAX_NAMED else ""
    return ", ".join(map(repr, terms[:MAX_NAMED])) + more
