"""Refused input goes in again, repaired, through the same door as everything else.

The operator speaks for the member whom ingest had recognised, with a token of a minute. A click that had no id
gets one made of where it stands, so that replaying it twice is one click with a repeat; and each keeps the time at
which it was made, so that it is of that month, or late, and never of the month in which it is replayed.

1. Send the clicks of a record. A crash between two of them, or before 2, leaves the record on the list: replaying it
   repeats clicks that keep their ids.
2. Mark the record as replayed, when all of it is in.
"""

from __future__ import annotations

import codecs
import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ingest.admission.tokens import issue
from ingest.contract.names import identifier
from ingest.contract.times import parse_time, true_time_ms
from ingest.http.redact import MARK
from ingest.runtime.clock import Clock
from warehouse.counts.rejections import Rejected

#: What a client may send; a click refused on the topic has more, which ingest would fill in again.
_FIELDS: Final = ("v", "click_id", "action", "creator_id", "thing", "site_id", "clicked_at", "sent_at")
_MARK: Final = MARK.decode()
_NAMESPACE: Final = uuid.UUID("a2bd0d5e-7c0e-4f0e-9f0a-5a1f6f1f7b11")
_TOKEN_VALID_S: Final = 60
_TRIES_MAX: Final = 5
_WAIT_MAX_S: Final = 30


class NotReplayable(ValueError):
    """A refused record cannot go in again as it is; the message says why."""


@dataclass(frozen=True)
class Repair:
    """What to change before sending: fields to drop, fields to set, and for whom if ingest did not know."""

    drop: Sequence[str] = ()
    put: Mapping[str, Any] | None = None
    member_id: str = ""


@dataclass(frozen=True)
class Outcome:
    """What ingest answered: its status, and why not when it was not 202."""

    status: int
    reason: str = ""
    retry_after_s: float = 1


@dataclass(frozen=True)
class Pieces:
    """What can be sent of a record: its clicks by item (None where it is one click), and why not the rest."""

    clicks: Sequence[tuple[int | None, dict[str, Any]]]
    rest: str = ""


def pieces_of(record: Rejected) -> Pieces:
    """The whole clicks in a record's bytes: one, or those of an array or of lines. Pure."""
    try:
        # Where it was cut, half a character may be left over.
        text = codecs.getincrementaldecoder("utf-8")().decode(record.raw).lstrip()
    except UnicodeDecodeError:
        return Pieces([], "its bytes are no UTF-8: send a corrected click with curl instead")
    if text.startswith("["):
        return _of_array(record, text)
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and isinstance(_parsed(text), Broken):
        found = [(item, _parsed(line)) for item, line in enumerate(lines)]
        clicks = [(item, one) for item, one in found if isinstance(one, dict)]
        return Pieces(clicks, _rest(record, len(lines) - len(clicks)))
    one = _parsed(text)
    if isinstance(one, dict):
        return Pieces([(None, one)])
    if isinstance(one, Broken):
        cut = "only its beginning was kept" if record.cut else "its bytes are no JSON"
        return Pieces([], f"{cut}: send a corrected click with curl instead")
    return Pieces([], "it is no click")


class Broken:
    """Stands for what is no JSON."""


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return Broken()


def _of_array(record: Rejected, text: str) -> Pieces:
    """The items of an array up to where it breaks: behind that nobody knows where an item begins."""
    clicks: list[tuple[int | None, dict[str, Any]]] = []
    others = item = 0
    at = _behind(text, 1, "")
    decoder = json.JSONDecoder()
    while text[at : at + 1] not in ("]", ""):
        try:
            one, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return Pieces(clicks, f"item {item} is no whole JSON" + (", the rest was cut off" if record.cut else ""))
        if isinstance(one, dict):
            clicks.append((item, one))
        else:
            others += 1
        item += 1
        at = _behind(text, at, ",")
    ended = text[at : at + 1] == "]"
    return Pieces(clicks, _rest(record, others) if ended or record.cut else "the array does not end")


def _behind(text: str, at: int, comma: str) -> int:
    """The next that is neither blank nor, once, a comma."""
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return _behind(text, at + 1, "") if comma and text[at : at + 1] == comma else at


def _rest(record: Rejected, others: int) -> str:
    said = [f"{others} items are no clicks"] * bool(others) + ["the rest was cut off"] * record.cut
    return ", ".join(said)


def repaired(record: Rejected, repair: Repair) -> tuple[str, dict[str, Any]]:
    """Member and click to send, of a record that is one click. Pure. Raises ``NotReplayable``."""
    pieces = pieces_of(record)
    if [item for item, _ in pieces.clicks] != [None]:
        raise NotReplayable(pieces.rest or "it is no single click")
    return repaired_item(record, *pieces.clicks[0], repair)


def repaired_item(
    record: Rejected, item: int | None, found: Mapping[str, Any], repair: Repair
) -> tuple[str, dict[str, Any]]:
    """Member and click to send, of one click in a record. Pure. Raises ``NotReplayable``."""
    click = dict(found)
    member_id = repair.member_id or record.member_id
    received_at = record.rejected_at_ms
    if record.id.topic == "clicks":
        member_id = member_id or str(click.get("member_id", ""))
        received_at = click.get("received_at", received_at)
        click = {name: click[name] for name in _FIELDS if name in click}
    if not member_id:
        raise NotReplayable("nobody had proved whose click it is: say so with --member")
    try:
        identifier("member_id", member_id)
    except ValueError as error:
        raise NotReplayable(str(error)) from None
    for name in ("token", "member_id", *repair.drop):
        click.pop(name, None)
    click |= repair.put or {}
    _check_whole(click, repair)
    place = str(record.id) if item is None else f"{record.id}:{item}"
    click.setdefault("click_id", str(uuid.uuid5(_NAMESPACE, place)))
    return member_id, _at_its_own_time(click, received_at)


def _check_whole(click: Mapping[str, Any], repair: Repair) -> None:
    """What looks like a token was cut out before it was kept; a thing with a hole is another thing."""
    for name, value in click.items():
        if name in _FIELDS and name not in (repair.put or {}) and isinstance(value, str) and _MARK in value:
            raise NotReplayable(f"something like a token was cut out of {name}: give it with --set {name}=...")


def _at_its_own_time(click: dict[str, Any], received_at: Any) -> dict[str, Any]:  # noqa: ANN401 - of refused bytes
    """The click as of when it was made: sent again today it must not become one of today's month."""
    sent_at = click.pop("sent_at", None)
    try:
        at_ms = parse_time(click.get("clicked_at", received_at))
        click["clicked_at"] = true_time_ms(at_ms, None if sent_at is None else parse_time(sent_at), received_at)
    except (TypeError, ValueError):
        pass  # what is no time is ingest's to refuse
    return click


class Door:
    """Ingest's address, and the keys to speak for members."""

    def __init__(self, url: str, keys: Path, *, audience: str, clock: Clock) -> None:
        self._url = url.rstrip("/") + "/v1/clicks"
        self._keys = keys
        self._audience = audience
        self._clock = clock

    def send(self, member_id: str, click: Mapping[str, Any]) -> Outcome:
        """Send one click, again where ingest says so: a record of many clicks meets its member's rate limit.

        Raises ``OSError`` when nobody answers, ``FileError`` without keys.
        """
        for _ in range(_TRIES_MAX):
            outcome = self._send(member_id, click)
            if outcome.status not in (429, 503):
                break
            time.sleep(min(outcome.retry_after_s, _WAIT_MAX_S))
        return outcome

    def _send(self, member_id: str, click: Mapping[str, Any]) -> Outcome:
        token = issue(self._keys, member_id, audience=self._audience, now_ms=self._clock(), valid_s=_TOKEN_VALID_S)
        request = urllib.request.Request(  # noqa: S310 - the operator names the address
            self._url,
            method="POST",
            data=json.dumps(click).encode(),
            headers={"authorization": f"Bearer {token}", "content-type": "application/json", "x-flattr-replay": "1"},
        )
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:  # noqa: S310 - as above
                return Outcome(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                reason = str(json.loads(error.read()).get("reason", ""))
                return Outcome(error.code, reason, float(error.headers.get("retry-after", 1)))
