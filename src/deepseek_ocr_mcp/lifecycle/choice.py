"""Decides which card reads next, and which card is brought up. All functions are pure, so tests need no card.

A batch is given to a card when that card can read it at once, never before. So no caller waits behind the long batch of
another while a card is free, and no page waits for a card that fails.

Other programs use these cards, too, and a card that is brought up takes memory from them until it is idle for long
enough. So pages that a ready and idle card can read wake no other card. If no card can begin with some pages at once,
cards are woken: one for each batch that waits, less the cards that are being woken already. Pages that are read ahead
of any request wait for the cards that are ready.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, inf

__all__ = ["Standing", "WaitingPages", "is_hopeless", "next_to_read", "next_to_wake", "share"]


@dataclass(frozen=True, slots=True)
class Standing:
    """The facts about a card on which the choice depends."""

    ready: bool = False
    """Whether its model can read, and no move is under way."""
    pages: int = 0
    """The number of pages that it was given and has not read yet."""
    waking: bool = False
    """Whether its model is being loaded or restored."""
    near: bool = False
    """Whether its weights are in host memory. A restore takes a tenth of the time of a load."""
    free_mb: int | None = None
    last_read: float = -inf
    """The time when it ended its last batch."""
    strikes: int = 0
    """The number of failures since it read its last page."""
    out_until: float = -inf
    """The time until which it is passed over, because it failed or had no room."""
    refused_at: int = -1
    """The number of the last attempt that failed, in the count that `WaitingPages.since` uses."""

    @property
    def up(self) -> bool:
        """Whether it can read, or is on the way to it."""
        return self.ready or self.waking or self.pages > 0


@dataclass(frozen=True, slots=True)
class WaitingPages:
    """Pages of one request that wait for a card."""

    pages: int = 1
    since: int = 0
    background: bool = False
    """Whether no caller waits for them yet."""
    shunned: frozenset[int] = frozenset()
    """The indices of the cards that failed over these pages."""


def next_to_read(cards: Sequence[Standing]) -> list[int]:
    """The cards that can begin a batch at once, the best first.

    The card that read last is the best, because the others can then become idle and give their memory back.
    """
    able = [index for index, card in enumerate(cards) if card.ready and not card.pages]
    return sorted(able, key=lambda index: (-cards[index].last_read, index))


def share(waiting: int, readers: int, most: int) -> int:
    """The number of pages of one batch. Two cards side by side are faster than one card with all pages.

    Args:
        waiting: the number of pages that wait.
        readers: the number of cards that can begin a batch at once.
        most: the number of pages that the engine reads in one batch.
    """
    return max(1, min(most, ceil(waiting / max(1, readers))))


def next_to_wake(
    cards: Sequence[Standing], waiting: Sequence[WaitingPages], *, batch_pages: int, now: float
) -> int | None:
    """The index of the card to bring up for the pages that wait; None if no further card is needed.

    Cards that have not failed come first; among them, cards whose weights are in host memory, and then the card with
    the most free memory. A card that failed is passed over for a while. It is tried earlier only for pages that no
    other card can read, once for each page.

    Args:
        cards: all cards.
        waiting: the pages that no card can begin at once, in any order.
        batch_pages: the number of pages that are read together.
        now: the time by the event loop's clock.
    """
    asleep = [index for index, card in enumerate(cards) if not card.up]
    fresh = [index for index in asleep if cards[index].out_until <= now]
    urgent = [part for part in waiting if not part.background or not _up(cards, part)]
    useful = {index: sum(part.pages for part in urgent if index not in part.shunned) for index in fresh}
    able = [index for index in fresh if useful[index]]
    if able:
        on_their_way = sum(card.waking for card in cards)
        if ceil(max(useful.values()) / batch_pages) > on_their_way:
            return min(able, key=lambda index: _rank(cards, index))
        return None
    for part in waiting:
        if not _up(cards, part):
            left = [index for index in asleep if index not in part.shunned and cards[index].refused_at < part.since]
            if left:
                return min(left, key=lambda index: (cards[index].out_until, index))
    return None


def is_hopeless(part: WaitingPages, cards: Sequence[Standing], now: float) -> bool:
    """Whether every card that may read these pages was tried and failed after they were asked for.

    Args:
        part: the pages.
        cards: all cards, in the order of the indices of `part.shunned`.
        now: the time by the event loop's clock.
    """
    return all(
        not card.up and card.out_until > now and card.refused_at > part.since
        for index, card in enumerate(cards)
        if index not in part.shunned
    )


def _up(cards: Sequence[Standing], part: WaitingPages) -> bool:
    return any(card.up for index, card in _allowed(cards, part))


def _allowed(cards: Sequence[Standing], part: WaitingPages) -> Iterable[tuple[int, Standing]]:
    return ((index, card) for index, card in enumerate(cards) if index not in part.shunned)


def _rank(cards: Sequence[Standing], index: int) -> tuple[int, bool, int, int]:
    card = cards[index]
    return card.strikes, not card.near, -(card.free_mb or 0), index
