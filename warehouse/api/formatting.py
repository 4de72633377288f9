"""Formatting of numbers, money and time for the pages, and the layout of charts. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol
from unicodedata import category
from urllib.parse import quote

from warehouse.counts.series import Point
from warehouse.payout.money import as_text, minor_micro

#: Unicode categories of invisible characters: control, format (which can reverse text), surrogate, private use,
#: unassigned, line and paragraph separators.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
#: Longer addresses of things are shortened to their beginning, which has the host, and their end.
_THING_MAX: Final = 120
_THING_HEAD: Final = 80
_THING_TAIL: Final = 39
_SIGNS: Final = {"EUR": "€", "USD": "$", "GBP": "£"}


def number(value: int) -> str:
    """``1,284``."""
    return f"{value:,}"


def short(value: int) -> str:
    """A round number of a scale: ``800``, ``40k``, ``2M``."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= size and value % (size // 10) == 0:
            return f"{value / size:g}{letter}"
    return number(value)


def money(amount_micro: int, currency: str, *, exact: bool = False, digits: int | None = None) -> str:
    """``€1,234.56``: rounded towards zero to the minor unit.

    ``exact`` shows six decimals if the minor unit does not suffice; ``digits=6`` always does, so that columns align.
    """
    unit = 1 if exact or digits else minor_micro(currency)
    size = abs(amount_micro) // unit * unit
    units, _, fraction = as_text(size, None if digits else currency).partition(".")
    text = f"{int(units):,}" + (f".{fraction}" if fraction else "")
    sign = _SIGNS.get(currency)
    return ("\N{MINUS SIGN}" if amount_micro < 0 and size else "") + (f"{sign}{text}" if sign else f"{currency} {text}")


def moment(at_ms: int | None) -> str:
    """``20 Nov 2026, 12:00:00 UTC``."""
    return "not known yet" if at_ms is None else f"{datetime.fromtimestamp(at_ms / 1000, UTC):%-d %b %Y, %H:%M:%S} UTC"


def day(at_ms: int) -> str:
    """``20 November``."""
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%-d %B}"


def age(seconds: float | None) -> str:
    """``0.4 s``, ``12 s``, ``3 min`` or ``2 h``."""
    if seconds is None:
        return "not known"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def visible(text: str) -> str:
    """Replace invisible characters, such as those that reverse or join text, by their code points."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"\\u{{{ord(char):x}}}" if category(char) in _UNSEEN else char for char in text)


class NamedThing(Protocol):
    """A thing with its canonical address, or the id that its creator chose, or neither."""

    @property
    def thing_id(self) -> str:
        """32 hexadecimal digits."""

    @property
    def thing(self) -> str:
        """The canonical address, or the id; empty if unknown."""


def thing_text(line: NamedThing) -> str:
    """A thing's address without scheme, shortened for a line of a list; its id if the address is unknown."""
    text = visible(line.thing.removeprefix("https://").removeprefix("http://")) or line.thing_id
    return text if len(text) <= _THING_MAX else f"{text[:_THING_HEAD]}\N{HORIZONTAL ELLIPSIS}{text[-_THING_TAIL:]}"


def creator_path(creator_id: str, month: str = "") -> str:
    """The address of a creator's page, in a month if given.

    Slashes are encoded, or a browser would resolve `../` in it. It would also resolve an id of one or two dots,
    however written: those are found by the search alone.
    """
    name = quote(creator_id, safe="")
    if creator_id in {".", ".."}:
        return f"/creators?q={name}" + (f"&month={month}" if month else "")
    return f"/creators/{name}" + (f"?month={month}" if month else "")


def month_name(month: int) -> str:
    """``November 2026`` for 202611."""
    return f"{datetime(month // 100, month % 100, 1, tzinfo=UTC):%B %Y}"


def part(amount: int, whole: int, steps: int = 1000) -> int:
    """The share of the whole in thousandths, for the width of a bar; negative amounts give 0."""
    return max(0, min(steps, amount * steps // whole)) if whole > 0 else 0


@dataclass(frozen=True)
class Bar:
    """A bar of a chart, in the chart's units, with its label."""

    x: float
    y: float
    width: float
    height: float
    label: str
    #: the text under the bar, empty for most
    tick: str


@dataclass(frozen=True)
class Chart:
    """Bars in a box of ``width`` by ``height``, and the lines of the scale as (y, text)."""

    width: int
    height: int
    bars: tuple[Bar, ...]
    lines: tuple[tuple[float, str], ...]


def nice_top(largest: int) -> int:
    """The top of the scale: the next 1, 2, 4, 6, 8 or 10 times a power of ten, so that from 2 on half is whole."""
    power = int("1".ljust(len(str(largest)), "0"))
    return next(power * step for step in (1, 2, 4, 6, 8, 10) if power * step >= largest)


def day_chart(points: Sequence[Point], days: int, *, width: int = 720, height: int = 200) -> Chart:
    """A month's days as bars; days to come are left empty."""
    top = nice_top(max((point.flattrs for point in points), default=1) or 1)
    slot = width / max(days, 1)
    bars = tuple(_bar(place, point, slot, height, top) for place, point in enumerate(points))
    middle = ((height / 2, short(top // 2)),) if top >= 2 else ()
    return Chart(width, height, bars, ((0.0, short(top)), *middle, (float(height), "0")))


def _bar(place: int, point: Point, slot: float, height: int, top: int) -> Bar:
    tall = round(point.flattrs / top * height, 2)
    label = f"{day(point.at_ms)}: {number(point.flattrs)} flattr{'' if point.flattrs == 1 else 's'}"
    tick = str(place + 1) if place == 0 or (place + 1) % 5 == 0 else ""
    gap = min(4.0, slot * 0.2)
    return Bar(round(place * slot + gap / 2, 2), round(height - tall, 2), round(slot - gap, 2), tall, label, tick)
