"""Learns how many pages an endpoint takes at once. Pure: it is told about pages, and asks nobody.

A server that batches reads 30 pages in hardly more time than one; a server with one slot lets 29 of them wait. Both
take the same requests and neither says which it is, so the waits tell: a page stands in the server's own queue when the
first byte of its answer comes later than it does for a page that is there alone. The number of pages grows while that
extra wait is shorter than half the time in which a page is read, shrinks when it is longer than one and a half times,
and is halved when the server refuses a page or lets one time out (additive increase, multiplicative decrease, as in
TCP's congestion control, RFC 5681).

On a server with one slot this ends at two pages: one is read and one waits, so that the slot is never empty.
"""

from __future__ import annotations

from typing import Final

__all__ = ["LearnedConcurrency"]

FIRST_PAGES: Final = 2  # one more than the smallest server reads at once; growth takes six rounds to 32
GROW_BELOW: Final = 0.5  # of a page's time; at 1 a server with one slot would be given a third page
SHRINK_ABOVE: Final = 1.5  # of a page's time; with two pages at one slot the second waits exactly one
SLACK_S: Final = 0.5  # an extra wait that is none: the noise of a network, where a page takes less than a second


class LearnedConcurrency:
    """How many pages one endpoint is given at once.

    Args:
        most: the bound that the operator set.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = float(min(FIRST_PAGES, most))
        self._is_new = True
        """Whether no limit was met yet: until then each page that does not wait makes room for one more."""
        self._lone_wait_s: float | None = None
        """Seconds until the first byte for a page that does not queue: of the last page that was there alone, or of a
        later page that waited even less."""

    def __repr__(self) -> str:
        return f"<LearnedConcurrency {self._size:.1f} of {self._most}>"

    @property
    def places(self) -> int:
        """The pages that may be there at once; 1 at least."""
        return max(1, int(self._size))

    def page_read(self, wait_s: float, read_s: float, *, alone: bool, mates: int) -> None:
        """Learn from a page that was read.

        Args:
            wait_s: until the first byte of its answer.
            read_s: from that byte to the last.
            alone: no other page of ours was there until its answer began.
            mates: other pages of ours that were there when it was sent.
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
        """Give half as many: it refused a page, or let one time out.

        Args:
            under_way: the pages that were there.
        """
        self._is_new = False
        self._size = max(1.0, min(self._size, under_way) / 2)
