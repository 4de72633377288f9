"""A bounded, fair queue: small requests do not wait behind large ones.

Callers take turns, and so do the requests of one caller, a few items each. A client that keeps asking for a hundred
unusual things is served as time permits, while a page with a dozen buttons is in the next batch.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

#: Items of one request per turn: the buttons of a page.
_ITEMS_A_TURN: Final = 20
#: After this many small requests of a caller a large one gets a turn.
_SMALL_TURNS: Final = 8
#: One caller may fill one part in this many of the queue, and half of that with large requests.
_SHARES: Final = 4


class _Own(Generic[T]):
    """One caller's waiting requests: those of a turn or less, and larger ones."""

    def __init__(self) -> None:
        self.waiting = 0
        self.small: deque[deque[T]] = deque()
        self.great: deque[deque[T]] = deque()
        self._small_turns = 0

    def put(self, request: deque[T]) -> None:
        self.waiting += len(request)
        (self.great if len(request) > _ITEMS_A_TURN else self.small).append(request)

    def take_turn(self, room: int, wanted: Callable[[T], bool]) -> tuple[int, list[T]]:
        """Return how many items left the queue, and those wanted. Small requests first, sometimes a large one."""
        if self.great and (not self.small or self._small_turns >= _SMALL_TURNS):
            requests, self._small_turns = self.great, 0
        else:
            requests, self._small_turns = self.small, self._small_turns + 1
        request = requests.popleft()
        left = min(len(request), room)
        items = [request.popleft() for _ in range(left)]
        if request:
            requests.append(request)
        self.waiting -= left
        return left, [item for item in items if wanted(item)]


class FairQueue(Generic[T]):
    """Waiting items, at most ``waiting_max``, by caller and request. Pure: no clock, no event loop."""

    def __init__(self, waiting_max: int) -> None:
        self._waiting_max = waiting_max
        self._waiting = 0
        self._callers: OrderedDict[str, _Own[T]] = OrderedDict()

    def has_room(self, caller: str, count: int) -> bool:
        """Whether a request of ``count`` items may wait. An empty queue accepts any."""
        own = self._callers.get(caller)
        if own is None:
            return not self._waiting or self._waiting + count <= self._waiting_max
        # The last part of the queue is reserved for callers with nothing in it; and large requests from an address
        # must not keep out small ones from the same address.
        part = self._waiting_max // _SHARES
        own_max = part // 2 if count > _ITEMS_A_TURN else part
        return own.waiting + count <= own_max and self._waiting + count <= self._waiting_max - part

    def put(self, caller: str, items: Iterable[T]) -> None:
        """Add one request's items."""
        request = deque(items)
        if request:
            self._waiting += len(request)
            self._callers.setdefault(caller, _Own()).put(request)

    def take(self, count: int, of_caller_max: int, wanted: Callable[[T], bool]) -> list[T]:
        """The next items, at most ``count`` and ``of_caller_max`` per caller, dropping those not ``wanted``."""
        taken: list[T] = []
        counts: Counter[str] = Counter()
        resting: list[tuple[str, _Own[T]]] = []
        while self._callers and len(taken) < count:
            caller, own = self._callers.popitem(last=False)
            room = min(count - len(taken), of_caller_max - counts[caller], _ITEMS_A_TURN)
            if room <= 0:
                resting.append((caller, own))
                continue
            left, got = own.take_turn(room, wanted)
            self._waiting -= left
            counts[caller] += len(got)
            taken += got
            if own.waiting:
                self._callers[caller] = own
        for caller, own in reversed(resting):
            self._callers[caller] = own
            self._callers.move_to_end(caller, last=False)
        return taken
