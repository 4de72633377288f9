"""Live events: topics, the newest event of each, and who listens. The queries are in live_poller.py.

Events carry absolute values, never differences, so the next event on a topic makes up for a missed one. That keeps
slow clients cheap: a mailbox holds only the newest event of each topic, however slowly it is emptied. It also makes
resuming easy: a client that returns with the id of the last event it saw gets the topics that have a newer one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import msgspec

#: the topics about the whole platform
PULSE: Final = "pulse"
TOP: Final = "top"


@dataclass(frozen=True, slots=True)
class Event:
    """The newest state of a topic. ``number`` is the server's clock in ms, so that it rises across restarts too."""

    number: int
    topic: str
    #: in the format of text/event-stream, encoded once for all listeners
    text: bytes


def encoded(number: int, topic: str, state: object) -> Event:
    """Make an event, named by its topic up to the colon."""
    name = topic.partition(":")[0]
    return Event(
        number, topic, b"id: %d\nevent: %s\ndata: %s\n\n" % (number, name.encode(), msgspec.json.encode(state))
    )


def creator_topic(creator_id: str) -> str:
    """The topic of one creator's count."""
    return f"creator:{creator_id}"


def creator_of(topic: str) -> str | None:
    """The creator that a topic is about, or None."""
    kind, _, creator_id = topic.partition(":")
    return creator_id if kind == "creator" else None


class Mailbox:
    """The events not yet sent to one client, at most one per topic."""

    def __init__(self, topics: Iterable[str], last_seen: int) -> None:
        self.topics: Final = frozenset(topics)
        self._last_seen = last_seen
        self._pending: dict[str, Event] = {}
        self._filled = asyncio.Event()

    def put(self, event: Event) -> None:
        """Replace the topic's pending event, unless the client has already seen this or a newer one."""
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
        """Yield encoded events for ever."""
        while True:
            yield b"".join([event.text for event in await self.take()])


class Board:
    """The newest event of every topic that has listeners."""

    def __init__(self) -> None:
        self._last: dict[str, Event] = {}
        self._mailboxes: dict[str, set[Mailbox]] = {}
        self.listeners = 0
        self._arrived = asyncio.Event()

    @property
    def topics(self) -> set[str]:
        """The topics that have listeners."""
        return set(self._mailboxes)

    def silent(self) -> set[str]:
        """Topics that have listeners and no event yet."""
        return self.topics - self._last.keys()

    async def listened(self) -> None:
        """Wait until there is a listener."""
        await self._arrived.wait()

    @contextmanager
    def listen(self, topics: Iterable[str], last_seen: int = 0) -> Iterator[Mailbox]:
        """Register a mailbox, filled with the topics' newest events after ``last_seen``."""
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
                # Without listeners the topic is no longer polled, so its event would become stale.
                self._last.pop(topic, None)
        if not self._mailboxes:
            self._arrived.clear()

    def say(self, number: int, topic: str, state: object) -> None:
        """Publish a topic's state; no-op if nobody listens."""
        mailboxes = self._mailboxes.get(topic)
        if not mailboxes:
            return
        event = self._last[topic] = encoded(number, topic, state)
        for mailbox in mailboxes:
            mailbox.put(event)

    def forget(self) -> None:
        """Drop all events, for example at the start of a month, so that every topic is published anew."""
        self._last.clear()
