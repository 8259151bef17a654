"""Finds the model that an operator named in the list of an endpoint, by the rules of the servers."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["is_pattern", "served_name"]


def served_name(model: str, listed: Sequence[str]) -> str | None:
    """The name under which to ask for a model; None if no entry of the list is that model.

    An entry with the same name comes first. Then come names that differ only in capitals, in Ollama's tag `:latest` or
    in the prefix `models/` of Google's list. A pattern of a gateway (`openai/*`) comes last: it stands for every name
    that fits, and the operator's own name is used.
    """
    if model in listed:
        return model
    for name in listed:
        if not is_pattern(name) and _plain(name) == _plain(model):
            return name
    return model if any(is_pattern(name) and _fits(model, name) for name in listed) else None


def is_pattern(name: str) -> bool:
    """Whether an entry of a list of models stands for many models."""
    return "*" in name


def _plain(name: str) -> str:
    return name.casefold().removeprefix("models/").removesuffix(":latest")


def _fits(name: str, pattern: str) -> bool:
    first, *middle, last = pattern.split("*")
    at, end = len(first), len(name) - len(last)
    if at > end or not (name.startswith(first) and name.endswith(last)):
        return False
    for part in middle:
        if (found := name.find(part, at, end)) < 0:
            return False
        at = found + len(part)
    return True
