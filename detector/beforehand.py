"""Work that threads do beforehand, while what they have done before is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

A = TypeVar("A")
B = TypeVar("B")
THREADS: Final = 2
MOST: Final = 4
"""So many are done or under way that nobody has asked for yet."""


def in_order(work: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """What `work` makes of each item, in their order. It should release the GIL, and may be called in any thread."""
    under_way: deque[Future[B]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        for item in items:
            if len(under_way) == MOST:
                yield under_way.popleft().result()
            under_way.append(pool.submit(work, item))
        while under_way:
            yield under_way.popleft().result()
