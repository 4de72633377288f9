"""Live events: topics, their last word, and who listens. No queries here; warehouse/api/live_poller.py asks them.

What is sent are absolute values, never changes, so an event that was missed is made good by the
next one of its topic. That is what keeps slow clients cheap: a mailbox holds the newest event of
each topic and nothing else, however slowly it is emptied. It also makes resuming easy: whoever
comes back with the id of the last event it saw gets the topics that have a newer one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import msgspec

#: topics that everybody may hear
PULSE: Final = "pulse"
TOP: Final = "top"


@dataclass(frozen=True, slots=True)
class Event:
    """The last word on a topic. ``number`` rises with time, over restarts too: ms of the server's clock."""

    number: int
    topic: str
    #: as text/event-stream has it: encoded once, for all who listen
    text: bytes


def encoded(number: int, topic: str, state: object) -> Event:
    """An event; its name is the topic up to a colon."""
    name = topic.partition(":")[0]
    return Event(
        number, topic, b"id: %d\nevent: %s\ndata: %s\n\n" % (number, name.encode(), msgspec.json.encode(state))
    )


def creator_topic(creator_id: str) -> str:
    """The topic of one creator's count."""
    return f"creator:{creator_id}"


def creator_of(topic: str) -> str | None:
    """The creator of a topic, None for other topics."""
    kind, _, creator_id = topic.partition(":")
    return creator_id if kind == "creator" else None


class Mailbox:
    """What one client has yet to be sent: at most one event per topic."""

    def __init__(self, topics: Iterable[str], last_seen: int) -> None:
        self.topics: Final = frozenset(topics)
        self._last_seen = last_seen
        self._pending: dict[str, Event] = {}
        self._filled = asyncio.Event()

    def put(self, event: Event) -> None:
        """Keep an event in place of an older one of its topic; none that the client has seen."""
        if event.number <= self._last_seen:
            return
        self._pending.pop(event.topic, None)
        self._pending[event.topic] = event
        self._filled.set()

    async def take(self) -> list[Event]:
        """Wait for events and return them, oldest first."""
        await self._filled.wait()
        self._filled.clear()
        events = sorted(self._pending.values(), key=lambda event: event.number)
        self._pending.clear()
        return events

    async def chunks(self) -> AsyncIterator[bytes]:
        """For ever, encoded."""
        while True:
            yield b"".join([event.text for event in await self.take()])


class Board:
    """The last word on every topic that somebody listens to."""

    def __init__(self) -> None:
        self._last: dict[str, Event] = {}
        self._mailboxes: dict[str, set[Mailbox]] = {}
        self.listeners = 0
        self._arrived = asyncio.Event()

    @property
    def topics(self) -> set[str]:
        """What somebody listens to."""
        return set(self._mailboxes)

    def silent(self) -> set[str]:
        """Topics that somebody listens to and nothing was ever said on."""
        return self.topics - self._last.keys()

    async def listened(self) -> None:
        """Wait until somebody listens."""
        await self._arrived.wait()

    @contextmanager
    def listen(self, topics: Iterable[str], last_seen: int = 0) -> Iterator[Mailbox]:
        """A mailbox with the last word on each topic that is newer than ``last_seen``."""
        mailbox = Mailbox(topics, last_seen)
        for topic in mailbox.topics:
            self._mailboxes.setdefault(topic, set()).add(mailbox)
            if topic in self._last:
                mailbox.put(self._last[topic])
        self.listeners += 1
        self._arrived.set()
        try:
            yield mailbox
        finally:
            self._leave(mailbox)

    def _leave(self, mailbox: Mailbox) -> None:
        self.listeners -= 1
        for topic in mailbox.topics:
            self._mailboxes[topic].discard(mailbox)
            if not self._mailboxes[topic]:
                del self._mailboxes[topic]
                # Nobody listens, so nobody asks the warehouse: this would grow old.
                self._last.pop(topic, None)
        if not self._mailboxes:
            self._arrived.clear()

    def say(self, number: int, topic: str, state: object) -> None:
        """State a topic that somebody listens to."""
        mailboxes = self._mailboxes.get(topic)
        if not mailboxes:
            return
        event = self._last[topic] = encoded(number, topic, state)
        for mailbox in mailboxes:
            mailbox.put(event)

    def forget(self) -> None:
        """Start over, as at the beginning of a month: every topic is said anew."""
        self._last.clear()
