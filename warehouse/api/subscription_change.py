"""A change of a subscription, sent to ingest as the member's own clicks: the API itself writes nothing."""

from __future__ import annotations

import urllib.error
import urllib.request
from enum import StrEnum
from http.client import HTTPException
from typing import Final

import msgspec

from ingest.contract.month import month_text
from warehouse.subscriptions.standing import Subscription

#: In the form, what is chosen instead of a last month.
FOR_EVER: Final = ""
END: Final = "end"
_TIMEOUT_S: Final = 5


class Said(StrEnum):
    """What became of a change."""

    SENT = "sent"
    REFUSED = "refused"
    UNANSWERED = "unanswered"


def clicks(one: Subscription, last: str, *, stands: bool) -> bytes:
    """The body of a request that ends the subscription, or has it end with the month ``last``.

    Whoever subscribes flattrs. Where no flattr of this month stands, it is taken back with the same breath: at one
    moment, the undo wins.
    """
    named = {"creator_id": one.creator_id, "thing": one.thing or one.thing_id}
    if last == END:
        return msgspec.json.encode([{**named, "action": "unsubscribe"}])
    until = {"until": last} if last != FOR_EVER else {}
    change = [{**named, "action": "subscribe", **until}]
    return msgspec.json.encode(change if stands else [*change, {**named, "action": "undo"}])


def choices(one: Subscription, months: list[int]) -> list[tuple[str, int]]:
    """The last months to choose from, as (text, month); the present choice is among them."""
    return [(month_text(month), month) for month in sorted({*months, one.last_month} - {0})]


def send(ingest: str, token: str, body: bytes) -> Said:
    """Send clicks as the member. Blocks, for some seconds at most."""
    request = urllib.request.Request(  # noqa: S310 - http(s), checked in the settings
        f"{ingest.rstrip('/')}/v1/clicks",
        data=body,
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - as above
            return Said.SENT if answer.status == 202 and not _refused(answer.read()) else Said.REFUSED
    except urllib.error.HTTPError as error:
        with error:
            return Said.REFUSED if error.code < 500 and error.code not in {408, 429} else Said.UNANSWERED
    except (OSError, HTTPException):
        return Said.UNANSWERED


def _refused(answer: bytes) -> bool:
    """Whether ingest refused a click of those it answers with a 202."""
    try:
        return bool(msgspec.json.decode(answer, type=_Answer).refused)
    except msgspec.DecodeError:
        return True


class _Answer(msgspec.Struct):
    refused: list[msgspec.Raw] = []
