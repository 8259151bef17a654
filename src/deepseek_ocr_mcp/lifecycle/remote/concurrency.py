"""Learns how many pages an endpoint takes at once. It is pure: callers report pages, and nothing is asked.

A server that batches reads 30 pages in hardly more time than one; a server with one slot lets 29 of them wait. Both
take the same requests, and neither tells its kind. The waits tell it: a page stands in the server's own queue if the
first byte of its answer comes later than for a page that is there alone. The number of pages grows while this extra
wait is shorter than half the time in which a page is read, and shrinks when it is longer than one and a half times that
time. It is halved when the server refuses a page or lets one time out (additive increase, multiplicative decrease, as
in TCP's congestion control, RFC 5681).

On a server with one slot this ends at two pages: one is read and one waits, so that the slot is never empty.
"""

from __future__ import annotations

from typing import Final

__all__ = ["LearnedConcurrency"]

FIRST_PAGES: Final = 2  # one more than the smallest server reads at once; growth takes six rounds to 32
GROW_BELOW: Final = 0.5  # part of a page's time; at 1 a server with one slot would get a third page
SHRINK_ABOVE: Final = 1.5  # part of a page's time; of two pages at one slot the second waits exactly 1
SLACK_S: Final = 0.5  # seconds; a shorter extra wait is noise of the network, where a page takes less than a second


class LearnedConcurrency:
    """The number of pages that one endpoint gets at once.

    Args:
        most: the bound that the operator set.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = float(min(FIRST_PAGES, most))
        self._is_new = True
        """Whether no limit was met yet. Until then each page that does not wait makes room for one more."""
        self._lone_wait_s: float | None = None
        """Seconds until the first byte for a page that does not queue: those of the last page that was there alone, or
        of a later page that waited even less."""

    def __repr__(self) -> str:
        return f"<LearnedConcurrency {self._size:.1f} of {self._most}>"

    @property
    def places(self) -> int:
        """The number of pages that may be there at once; 1 at least."""
        return max(1, int(self._size))

    def page_read(self, wait_s: float, read_s: float, *, alone: bool, mates: int) -> None:
        """Learn from a page that was read.

        Args:
            wait_s: seconds until the first byte of its answer.
            read_s: seconds from the first byte to the last.
            alone: whether no other page of ours was there until its answer began.
            mates: the number of other pages of ours that were there when it was sent.
        """
        if self._lone_wait_s is None or alone or wait_s < self._lone_wait_s:
            self._lone_wait_s = wait_s
        extra_s = wait_s - self._lone_wait_s
        page_s = self._lone_wait_s + read_s
        if extra_s > max(SHRINK_ABOVE * page_s, SLACK_S):
            self._is_new = False
            self._size = max(1.0, self._size - 1)
        elif extra_s > max(GROW_BELOW * page_s, SLACK_S):
            self._is_new = False
        elif mates >= min(1, self.places - 1) and mates + 1 >= self.places / 2:
            # A page that was there alone, or with places to spare, says nothing about more of them.
            self._size = min(float(self._most), self._size + (1 if self._is_new else 1 / self._size))

    def halve(self, under_way: int) -> None:
        """Halve the number, after the endpoint refused a page or let one time out.

        Args:
            under_way: the number of pages that were there.
        """
        self._is_new = False
        self._size = max(1.0, min(self._size, under_way) / 2)
