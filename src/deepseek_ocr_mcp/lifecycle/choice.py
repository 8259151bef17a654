"""Decides which card reads next and which card is brought up. Pure: a failing card is tested without a card.

A batch is bound to a card when that card can read it at once, never before. So nobody waits behind somebody's long
batch while another card is free, and a card that fails has nobody standing in line for it.

Other programs use these cards too, and a card that is brought up takes memory from them for as long as the idle
policy lets it. So pages that a ready and idle card can read wake no other card. Pages that no card can begin at once
wake one: a card for each batch that waits, less the cards that are on their way. Pages that are read ahead, for nobody
yet, wait for the cards that are up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, inf

__all__ = ["Standing", "WaitingPages", "is_hopeless", "next_to_read", "next_to_wake", "share"]


@dataclass(frozen=True, slots=True)
class Standing:
    """A card, as the choice sees it."""

    ready: bool = False
    """Its model is where it reads, and nothing is being done about it."""
    pages: int = 0
    """Pages that it was given and has not read yet."""
    waking: bool = False
    """Its model is on the way to where it reads."""
    near: bool = False
    """Its weights are in host memory: back on the card in a tenth of the time that a load takes."""
    free_mb: int | None = None
    last_read: float = -inf
    """When it ended its last batch."""
    strikes: int = 0
    """How often it has failed since it read its last page."""
    out_until: float = -inf
    """Until when it is passed over, because it failed or had no room."""
    refused_at: int = -1
    """When it was last tried in vain; a count that `WaitingPages.since` shares."""

    @property
    def up(self) -> bool:
        """Whether it reads, or will without anybody's doing."""
        return self.ready or self.waking or self.pages > 0


@dataclass(frozen=True, slots=True)
class WaitingPages:
    """Pages of one request that wait for a card."""

    pages: int = 1
    since: int = 0
    background: bool = False
    """Whether nobody waits for them yet."""
    shunned: frozenset[int] = frozenset()
    """Indices of the cards that failed over these very pages."""


def next_to_read(cards: Sequence[Standing]) -> list[int]:
    """The cards that can begin a batch at once, best first.

    The one that read last comes first: on the others the idle time runs on, and their memory goes back.
    """
    able = [index for index, card in enumerate(cards) if card.ready and not card.pages]
    return sorted(able, key=lambda index: (-cards[index].last_read, index))


def share(waiting: int, readers: int, most: int) -> int:
    """Pages that one batch may have. Side by side on two cards is faster than in one batch on one.

    Args:
        waiting: pages that wait.
        readers: cards that can begin a batch at once.
        most: pages that the engine reads in one batch.
    """
    return max(1, min(most, ceil(waiting / max(1, readers))))


def next_to_wake(
    cards: Sequence[Standing], waiting: Sequence[WaitingPages], *, batch_pages: int, now: float
) -> int | None:
    """The index of the card to bring up for the pages that wait; None: no further one.

    Cards that have not failed come before cards that have, then cards whose weights are in host memory, then the one
    with most free memory. A card that is left out for a while is tried earlier only for pages that no other card can
    read, and once for each of them.

    Args:
        cards: all of them.
        waiting: the pages that no card can begin at once, in any order.
        batch_pages: pages that are read together.
        now: by the event loop's clock.
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
    """Whether every card that may read these pages has been tried in vain since they were asked for.

    Args:
        part: the pages.
        cards: all of them, in the order that `part.shunned` counts.
        now: by the event loop's clock.
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
