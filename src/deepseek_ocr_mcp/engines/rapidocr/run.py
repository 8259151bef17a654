"""The model runs of one page, shared out over a pool of threads. No run outlives its page."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from queue import Empty, SimpleQueue
from typing import Any, Self, TypeVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ..base import Call
from ..sheet import POLL_S, Region

__all__ = ["ModelRun", "longest_first"]


S = TypeVar("S")
T = TypeVar("T")


class ModelRun:
    """The model runs of one page, shared out over the pool. None outlives the context."""

    def __init__(self, pool: ThreadPoolExecutor, call: Call) -> None:
        self._pool = pool
        self._call = call
        self._options = onnxruntime.RunOptions()
        self._started: list[Future[Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._options.terminate = True
        for future in self._started:
            future.cancel()
        wait(self._started)

    def model(self, session: Any, tensor: NDArray[np.float32] | NDArray[np.uint8]) -> NDArray[np.float32]:
        """The first output of `session`. For use inside `start` and `all`."""
        output: NDArray[np.float32] = session.run(None, {"x": tensor}, self._options)[0]
        return output

    def start(self, work: Callable[[S], T], items: Iterable[S]) -> dict[S, Future[T]]:
        """Begin `work(item)` for all items, in their order."""
        futures = {item: self._pool.submit(work, item) for item in items}
        self._started += futures.values()
        return futures

    def each(self, futures: Iterable[Future[T]]) -> Iterator[T]:
        """Their results, in the order in which they are done.

        Raises:
            Cancelled: nobody waits for this page any more.
        """
        waiting = list(futures)
        done: SimpleQueue[Future[T]] = SimpleQueue()
        for future in waiting:  # `wait` would look at all that are left each time that one is done
            future.add_done_callback(done.put)
        left = len(waiting)
        while left:
            self._call.raise_if_cancelled()
            try:
                future = done.get(timeout=POLL_S)
            except Empty:
                continue
            left -= 1
            yield future.result()

    def all(self, work: Callable[[S], T], items: Sequence[S]) -> list[T]:
        """`work(item)` for all items, in their order."""
        futures = self.start(lambda n: work(items[n]), range(len(items))).values()
        for _ in self.each(futures):
            pass
        return [future.result() for future in futures]


def longest_first(regions: Sequence[Region], without: Container[int]) -> list[int]:
    """The numbers of the regions, in an order in which no thread is left with a long one at the end."""
    numbers = [n for n in range(len(regions)) if n not in without]
    return sorted(numbers, key=lambda n: -regions[n].length / regions[n].thickness)
