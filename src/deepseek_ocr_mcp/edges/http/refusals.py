"""Says what is wrong with a request: the field, what was sent, and what is allowed.

A value is repeated only where it is short and no secret: it may be a whole image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from ...errors import BadRequest
from ...text import nearest

__all__ = ["REMEDY", "checked", "problems_of"]

M = TypeVar("M", bound=BaseModel)

REMEDY: Final = "GET /docs shows the arguments."
MOST: Final = 5  # problems in one sentence: a form of other people's fields has dozens
SHOWN_CHARS: Final = 40
UNSHOWN: Final = frozenset({"image", "password", "result", "text"})

_SENTENCES: Final[dict[str, str]] = {
    "bool_parsing": "is neither true nor false",
    "bool_type": "is neither true nor false",
    "dict_type": "is no object",
    "float_parsing": "is no number",
    "float_type": "is no number",
    "greater_than_equal": "is less than {ge}",
    "int_from_float": "is no whole number",
    "int_parsing": "is no whole number",
    "int_parsing_size": "is too large a number",
    "int_type": "is no whole number",
    "less_than_equal": "is more than {le}",
    "list_type": "is no list",
    "literal_error": "is not one of {expected}",
    "model_attributes_type": "is no object",
    "model_type": "is no object",
    "string_too_long": "is too long: {max_length} characters at most",
    "string_type": "is no text",
    "too_long": "is too long: {max_length} at most",
    "too_short": "is too short: {min_length} at least",
}
"""For the kinds of errors of pydantic: the end of a sentence that begins with the field and its value."""


def checked(make: Callable[[], M], known: Iterable[str] = ()) -> M:
    """The model that `make` validates.

    Args:
        make: validates.
        known: the fields of the request, for a hint where a field is misspelt.

    Raises:
        BadRequest: the request does not fit.
    """
    try:
        return make()
    except ValidationError as exc:
        errors = exc.errors(include_url=False)
        raise BadRequest(f"The request cannot be used. {problems_of(errors, known)}", remedy=REMEDY) from None


def problems_of(errors: Sequence[Any], known: Iterable[str] = ()) -> str:
    """Sentences about the errors of a validation."""
    names = list(known)
    more = f" And {len(errors) - MOST} more." if len(errors) > MOST else ""
    return " ".join(_problem(error, names) for error in errors[:MOST]) + more


def _problem(error: dict[str, Any], known: Sequence[str]) -> str:
    kind, field = error["type"], ".".join(str(part)[:SHOWN_CHARS] for part in error["loc"]) or "The body"
    if kind == "extra_forbidden":
        return f"There is no field {field!a}{_instead(str(error['loc'][-1]), known)}"
    if kind == "missing":
        return f"{field} is missing."
    if kind == "json_invalid":
        return f"The body is no JSON: {error['ctx']['error']}."
    if kind == "value_error":
        return f"{field}: {error['ctx']['error']}."
    if (sentence := _SENTENCES.get(kind)) is None:
        return f"{field}{_value(error)}: {error['msg']}."
    return f"{field}{_value(error)} {sentence.format(**error.get('ctx') or {})}."


def _value(error: dict[str, Any]) -> str:
    value, hidden = error.get("input"), UNSHOWN.intersection(error["loc"])
    is_short = isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) <= SHOWN_CHARS)
    return f"={value!a}" if is_short and not hidden else ""


def _instead(name: str, known: Sequence[str]) -> str:
    """The fields that a caller may have meant by a field that is not there."""
    if near := nearest(name, known):
        return f": did you mean {near}?"
    return f". There are {', '.join(known)}." if known else "."
