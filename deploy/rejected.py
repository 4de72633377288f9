"""Refused input goes in again, repaired, through the same door as everything else.

The operator speaks for the member whom ingest had recognised, with a token of a minute. A click that had no id
gets one made of where it stands, so that replaying it twice is one click with a repeat.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ingest.click import identifier, parse_time, true_time_ms
from ingest.clock import Clock
from ingest.tokens import issue
from warehouse.rejected import Rejected

#: What a client may send; a click refused on the topic has more, which ingest would fill in again.
_FIELDS: Final = ("v", "click_id", "action", "creator_id", "thing", "site_id", "clicked_at", "sent_at")
_NAMESPACE: Final = uuid.UUID("a2bd0d5e-7c0e-4f0e-9f0a-5a1f6f1f7b11")
_TOKEN_VALID_S: Final = 60


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


def repaired(record: Rejected, repair: Repair) -> tuple[str, dict[str, Any]]:
    """Member and click to send. Pure. Raises ``NotReplayable``."""
    try:
        click = json.loads(record.raw)
    except (ValueError, RecursionError):
        raise NotReplayable("its bytes are no JSON: send a corrected click with curl instead") from None
    if not isinstance(click, dict):
        raise NotReplayable("it is no single click")
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
    click.setdefault("click_id", str(uuid.uuid5(_NAMESPACE, str(record.id))))
    return member_id, _at_its_own_time(click, received_at)


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
        """Send one click. Raises ``OSError`` when nobody answers, ``FileError`` without keys."""
        token = issue(self._keys, member_id, audience=self._audience, now_ms=self._clock(), valid_s=_TOKEN_VALID_S)
        request = urllib.request.Request(  # noqa: S310 - the operator names the address
            self._url,
            method="POST",
            data=json.dumps(click).encode(),
            headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:  # noqa: S310 - as above
                return Outcome(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return Outcome(error.code, str(json.loads(error.read()).get("reason", "")))
