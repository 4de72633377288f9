"""Replays refused input, repaired, through the same endpoint as everything else.

The operator acts for the member whom ingest had authenticated, with a token valid for a minute. A click without an id
gets one derived from its position, so that replaying it twice is one click with a repeat. Every click keeps its own
time, so that it belongs to that month, or is late, and never to the month in which it is replayed.

1. Send the clicks of a record. A crash between two of them, or before step 2, leaves the record on the list; replaying
   it repeats clicks under the same ids.
2. Mark the record as replayed, once all of it is accepted.
"""

from __future__ import annotations

import codecs
import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deploy.errors import CommandFailed
from ingest.contract.names import identifier
from ingest.contract.times import parse_time, true_time_ms
from ingest.http.redact import MARK
from ingest.runtime.clock import Clock
from ingest.runtime.tokens import issue
from warehouse.counts.rejections import Rejected

#: The fields a client may send; a click refused by the stream has more, which ingest fills in again.
_FIELDS: Final = ("v", "click_id", "action", "creator_id", "thing", "site_id", "clicked_at", "sent_at", "until")
_MARK: Final = MARK.decode()
_NAMESPACE: Final = uuid.UUID("a2bd0d5e-7c0e-4f0e-9f0a-5a1f6f1f7b11")
_TOKEN_VALID_S: Final = 60
_TRIES_MAX: Final = 5
_WAIT_MAX_S: Final = 30


class NotReplayable(ValueError):
    """A refused record cannot be replayed as it is; the message says why."""


@dataclass(frozen=True)
class Repair:
    """What to change before sending: fields to drop, fields to set, and the member if ingest did not know."""

    drop: Sequence[str] = ()
    put: Mapping[str, Any] | None = None
    member_id: str = ""


@dataclass(frozen=True)
class Outcome:
    """Ingest's answer: its status, and the reason if it was not 202."""

    status: int
    reason: str = ""
    retry_after_s: float = 1


@dataclass(frozen=True)
class Pieces:
    """What can be sent of a record: its clicks by item (None for a single click), and what is wrong with the rest."""

    clicks: Sequence[tuple[int | None, dict[str, Any]]]
    rest: str = ""


def pieces_of(record: Rejected) -> Pieces:
    """The complete clicks in a record's bytes: a single one, or those of an array or of lines. Pure."""
    try:
        # Truncation may have left an incomplete character at the end.
        text = codecs.getincrementaldecoder("utf-8")().decode(record.raw).lstrip()
    except UnicodeDecodeError:
        return Pieces([], "it is not UTF-8: send a corrected click with curl instead")
    if text.startswith("["):
        return _of_array(record, text)
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and isinstance(_parsed(text), Broken):
        found = [(item, _parsed(line)) for item, line in enumerate(lines)]
        clicks = [(item, click) for item, click in found if isinstance(click, dict)]
        return Pieces(clicks, _rest(record, len(lines) - len(clicks)))
    parsed = _parsed(text)
    if isinstance(parsed, dict):
        return Pieces([(None, parsed)])
    if isinstance(parsed, Broken):
        cut = "only its beginning was stored" if record.cut else "it is not JSON"
        return Pieces([], f"{cut}: send a corrected click with curl instead")
    return Pieces([], "it is not a click")


class Broken:
    """Stands for text that is not JSON."""


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return Broken()


def _of_array(record: Rejected, text: str) -> Pieces:
    """The items of an array up to the first syntax error; after that the boundaries of items are unknown."""
    clicks: list[tuple[int | None, dict[str, Any]]] = []
    others = item = 0
    at = _behind(text, 1, "")
    decoder = json.JSONDecoder()
    while text[at : at + 1] not in ("]", ""):
        try:
            one, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return Pieces(
                clicks, f"item {item} is not complete JSON" + (", the rest was cut off" if record.cut else "")
            )
        if isinstance(one, dict):
            clicks.append((item, one))
        else:
            others += 1
        item += 1
        at = _behind(text, at, ",")
    ended = text[at : at + 1] == "]"
    return Pieces(clicks, _rest(record, others) if ended or record.cut else "the array does not end")


def _behind(text: str, at: int, comma: str) -> int:
    """The index after whitespace and at most one comma."""
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return _behind(text, at + 1, "") if comma and text[at : at + 1] == comma else at


def _rest(record: Rejected, others: int) -> str:
    said = [f"{others} items are not clicks"] * bool(others) + ["the rest was cut off"] * record.cut
    return ", ".join(said)


def repaired(record: Rejected, repair: Repair) -> tuple[str, dict[str, Any]]:
    """Member and click to send for a record that is one click. Pure. Raises ``NotReplayable``."""
    pieces = pieces_of(record)
    if [item for item, _ in pieces.clicks] != [None]:
        raise NotReplayable(pieces.rest or "it is not a single click")
    return repaired_item(record, *pieces.clicks[0], repair)


def repaired_item(
    record: Rejected, item: int | None, found: Mapping[str, Any], repair: Repair
) -> tuple[str, dict[str, Any]]:
    """Member and click to send for one click of a record. Pure. Raises ``NotReplayable``."""
    click = dict(found)
    member_id = repair.member_id or record.member_id
    received_at = record.rejected_at_ms
    if record.id.topic == "clicks":
        member_id = member_id or str(click.get("member_id", ""))
        received_at = click.get("received_at", received_at)
        click = {name: click[name] for name in _FIELDS if name in click}
    if not member_id:
        raise NotReplayable("its sender was not authenticated: name the member with --member")
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
    """Refuse a click from whose fields something like a token was redacted, since its thing would be another."""
    for name, value in click.items():
        if name in _FIELDS and name not in (repair.put or {}) and isinstance(value, str) and _MARK in value:
            raise NotReplayable(f"something like a token was redacted in {name}: set its value with --set {name}=...")


def _at_its_own_time(click: dict[str, Any], received_at: Any) -> dict[str, Any]:  # noqa: ANN401 - of refused bytes
    """The click with its original time, so that it does not move to the month in which it is replayed."""
    sent_at = click.pop("sent_at", None)
    try:
        at_ms = parse_time(click.get("clicked_at", received_at))
        click["clicked_at"] = true_time_ms(at_ms, None if sent_at is None else parse_time(sent_at), received_at)
    except (TypeError, ValueError):
        pass  # an invalid time is ingest's to refuse
    return click


class Door:
    """A client for ingest that signs tokens for members."""

    def __init__(self, url: str, keys: Path, *, audience: str, clock: Clock) -> None:
        self._url = _address(url).rstrip("/") + "/v1/clicks"
        self._keys = keys
        self._audience = audience
        self._clock = clock

    def send(self, member_id: str, click: Mapping[str, Any]) -> Outcome:
        """Send one click; retries on 429 and 503, since a record of many clicks hits its member's rate limit.

        Raises ``OSError`` when ingest does not answer, and ``FileError`` without keys.
        """
        for _ in range(_TRIES_MAX):
            outcome = self._send(member_id, click)
            if outcome.status not in (429, 503):
                break
            time.sleep(min(outcome.retry_after_s, _WAIT_MAX_S))
        return outcome

    def _send(self, member_id: str, click: Mapping[str, Any]) -> Outcome:
        token = issue(self._keys, member_id, audience=self._audience, now_ms=self._clock(), valid_s=_TOKEN_VALID_S)
        request = urllib.request.Request(  # noqa: S310 - the operator gives the address
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
                return _refused(error)
        except http.client.HTTPException as error:
            raise OSError(f"what answers there is no ingest ({error!r})") from error


def _address(url: str) -> str:
    try:
        said = urllib.parse.urlsplit(url)
        is_one = said.scheme in {"http", "https"} and bool(said.hostname) and said.port != 0
    except ValueError:
        is_one = False
    if not is_one:
        raise CommandFailed(f"{url!r} is no address of ingest, such as http://127.0.0.1:8001")
    return url


def _refused(error: urllib.error.HTTPError) -> Outcome:
    """A refusal; of another server's, which gives no reason of ours, the status alone."""
    try:
        reason = str(json.loads(error.read())["reason"])
        return Outcome(error.code, reason, float(error.headers.get("retry-after", 1)))
    except (ValueError, TypeError, KeyError, RecursionError):
        return Outcome(error.code, error.reason)
