"""From bytes to clicks, or to the reason why something is not a click. Pure: bytes, member and time in, verdict out.

Two paths, which tests/ingest/test_validate.py shows to agree: well-formed input is decoded straight into a struct.
Whatever that refuses is examined field by field, to name the field and the reason, or to accept what only the strict
path refuses (``x_...`` fields).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, Literal, get_args

import msgspec

from ingest.admission.request import NDJSON
from ingest.contract.click import UNREADABLE, VERSION, ActionName, Click
from ingest.contract.month import month_of, parse_month
from ingest.contract.names import ID_LENGTH_MAX, IDENTIFIER, IDENTIFIER_RULE, UUID, Name
from ingest.contract.rejection import Reason
from ingest.contract.thing import THING_LENGTH_MAX, Thing, plain
from ingest.contract.times import Time, parse_time, true_time_ms
from ingest.runtime.aliases import Aliases, AliasTable, thing_id
from ingest.runtime.refusal import Refusal, Refused

_ACTIONS: Final = get_args(ActionName)
_THINGS_REMEMBERED: Final = 65_536
_NAMES_REMEMBERED: Final = 16_384


class _Wire(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A click as a client sends it."""

    creator_id: Name
    thing: Thing
    v: Literal[1] = VERSION
    click_id: str | None = None
    action: ActionName = "flattr"
    member_id: str | None = None
    site_id: Name | None = None
    clicked_at: Time | str | None = None
    sent_at: Time | str | None = None
    token: str | None = None
    until: str | None = None


_FIELDS: Final = frozenset(_Wire.__struct_fields__)
_one = msgspec.json.Decoder(_Wire)
_many = msgspec.json.Decoder(list[_Wire])
_anything = msgspec.json.Decoder()
_items = msgspec.json.Decoder(list[msgspec.Raw])


class Caller(msgspec.Struct, frozen=True, gc=False):
    """Whose clicks these are, and from which site; ``site_id`` is empty when no site key was sent."""

    member_id: str
    site_id: str = ""


class _Bad(Exception):
    """One field is wrong."""

    def __init__(self, reason: Reason, field: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.field, self.detail = reason, field, detail


class Validator:
    """Turns the items of requests into clicks, given the alias table and a source of click ids."""

    def __init__(
        self,
        aliases: Aliases | None = None,
        *,
        new_id: Callable[[], uuid.UUID] = uuid.uuid4,
        batch_max_clicks: int = 1000,
    ) -> None:
        self._new_id = new_id
        self._batch_max_clicks = batch_max_clicks
        self._aliases = aliases or Aliases()
        self._in_force = self._aliases.look()

        @lru_cache(_THINGS_REMEMBERED)
        def named(table: AliasTable, creator_id: str, sent: str) -> tuple[str, str]:
            thing = plain(sent)
            return thing, thing_id(creator_id, thing, table)

        self._named = named

    def read(self, body: bytes, media_type: bytes, caller: Caller, now_ms: int) -> list[Click | Refusal]:
        """The verdict on every item of a body, in order. Raises ``Refused`` when the body as a whole is invalid."""
        self._in_force = self._aliases.look()
        body = body.strip(b" \t\r\n")
        if not body:
            raise Refused(Reason.BODY_EMPTY, "the body is empty")
        if media_type in NDJSON:
            return self._lines(split_lines(body), caller, now_ms)
        if body[0] == 0x5B:
            return self._array(body, caller, now_ms)
        return [self.item(body, 0, caller, now_ms)]

    def is_thing(self, click: Click, creator_id: str, thing: str) -> bool:
        """Whether the click is for this thing of this creator, under the aliases in force at the click's time."""
        at_ms = true_time_ms(click.clicked_at, click.sent_at, click.received_at)
        try:
            _, thing_id = self._named(self._in_force.only or self._in_force.at(at_ms), creator_id, thing)
        except ValueError:
            return False
        return thing_id == click.thing_id

    def raws(self, body: bytes, media_type: bytes) -> list[bytes]:
        """The bytes of each item, in the order of ``read``'s verdicts; only for a body that ``read`` accepted."""
        body = body.strip(b" \t\r\n")
        if media_type in NDJSON:
            return split_lines(body)
        return split_array(body) if body[0] == 0x5B else [body]

    def item(self, raw: bytes, index: int, caller: Caller, now_ms: int) -> Click | Refusal:
        """The verdict on one item."""
        try:
            return self._click(_one.decode(raw), caller, now_ms)
        except UNREADABLE:
            pass
        except _Bad as bad:
            return Refusal(bad.reason, bad.detail, index, bad.field)
        try:
            return self._click(_diagnosed(raw), caller, now_ms)
        except _Bad as bad:
            return Refusal(bad.reason, bad.detail, index, bad.field)

    def _lines(self, lines: list[bytes], caller: Caller, now_ms: int) -> list[Click | Refusal]:
        self._check_count(len(lines))
        return [self.item(line, index, caller, now_ms) for index, line in enumerate(lines)]

    def _array(self, body: bytes, caller: Caller, now_ms: int) -> list[Click | Refusal]:
        try:
            wires = _many.decode(body)
            self._check_count(len(wires))
            return [self._click(wire, caller, now_ms) for wire in wires]
        except (*UNREADABLE, _Bad):
            raws = split_array(body)
            self._check_count(len(raws))
            return [self.item(raw, index, caller, now_ms) for index, raw in enumerate(raws)]

    def _check_count(self, count: int) -> None:
        if not count:
            raise Refused(Reason.BODY_EMPTY, "the body has no clicks")
        if count > self._batch_max_clicks:
            raise Refused(
                Reason.BATCH_TOO_LARGE, f"{count} clicks in one request; the maximum is {self._batch_max_clicks}"
            )

    def _click(self, sent: _Wire, caller: Caller, now_ms: int) -> Click:
        creator_id = _identified("creator_id", sent.creator_id)
        site_id = None if sent.site_id is None else _identified("site_id", sent.site_id)
        if sent.member_id is not None and sent.member_id != caller.member_id:
            raise _Bad(Reason.MEMBER_MISMATCH, "member_id", "the token is for another member")
        if creator_id == caller.member_id:
            raise _Bad(Reason.OWN_THING, "creator_id", "members cannot flattr their own things")
        if caller.site_id and site_id not in (None, caller.site_id):
            raise _Bad(Reason.FIELD_VALUE, "site_id", "the key is for another site")
        clicked_at, sent_at = _times(sent, now_ms)
        table = self._in_force.only or self._in_force.at(true_time_ms(clicked_at, sent_at, now_ms))
        try:
            thing, thing_id = self._named(table, creator_id, sent.thing)
        except ValueError as error:
            raise _Bad(Reason.FIELD_VALUE, "thing", f"not an address or id: {error}") from None
        return Click(
            v=VERSION,
            click_id=self._click_id(sent.click_id),
            action=sent.action,
            member_id=caller.member_id,
            creator_id=creator_id,
            thing=thing,
            thing_id=thing_id,
            site_id=caller.site_id or site_id or "",
            clicked_at=clicked_at,
            received_at=now_ms,
            sent_at=sent_at,
            until=None if sent.until is None else _until(sent, true_time_ms(clicked_at, sent_at, now_ms)),
        )

    def _click_id(self, sent: str | None) -> str:
        if sent is None:
            return str(self._new_id())
        if UUID.fullmatch(sent):
            return sent
        folded = sent.lower()
        if UUID.fullmatch(folded):
            return folded
        raise _Bad(Reason.FIELD_VALUE, "click_id", "must be a UUID such as 4be0643f-1d98-573b-97cd-ca98a65347dd")


def split_lines(body: bytes) -> list[bytes]:
    """The items of NDJSON; blank lines are skipped."""
    return [line for line in body.split(b"\n") if line.strip()]


def split_array(body: bytes) -> list[bytes]:
    """The raw bytes of each item of a JSON array. Raises ``Refused`` when the body is not one."""
    try:
        return [bytes(raw) for raw in _items.decode(body)]
    except UNREADABLE as error:
        raise Refused(Reason.JSON_MALFORMED, _plain(error)) from None


@lru_cache(_NAMES_REMEMBERED)
def _identified(field: str, name: str) -> str:
    """A name of this field, if it is valid. Errors are not cached, so what is refused takes no memory."""
    if not IDENTIFIER.fullmatch(name):
        raise _Bad(Reason.FIELD_VALUE, field, IDENTIFIER_RULE)
    return name


def _times(sent: _Wire, now_ms: int) -> tuple[int, int | None]:
    """``clicked_at`` and ``sent_at`` as the client sent them; readers of the log derive the true time.

    A click without ``clicked_at`` gets our time, so its ``sent_at`` is checked and dropped.
    """
    sent_at = None if sent.sent_at is None else _time("sent_at", sent.sent_at)
    if sent.clicked_at is None:
        return now_ms, None
    return _time("clicked_at", sent.clicked_at), sent_at


def _time(field: str, sent: int | str) -> int:
    try:
        return parse_time(sent)
    except ValueError as error:
        raise _Bad(Reason.FIELD_VALUE, field, str(error)) from None


def _until(sent: _Wire, at_ms: int) -> str | None:
    """The last month of a subscription that is made at this time."""
    text = sent.until or ""
    if sent.action != "subscribe":
        raise _Bad(Reason.FIELD_VALUE, "until", "only with the action subscribe")
    try:
        last = parse_month(text)
    except ValueError as error:
        raise _Bad(Reason.FIELD_VALUE, "until", str(error)) from None
    if last < month_of(at_ms):
        raise _Bad(Reason.FIELD_VALUE, "until", f"{text} is over")
    return text


def _diagnosed(raw: bytes) -> _Wire:
    """Examine what the strict decoder refused. Raises ``_Bad``, or returns a click that is valid after all."""
    try:
        sent = _anything.decode(raw)
    except UNREADABLE as error:
        raise _Bad(Reason.JSON_MALFORMED, "", _plain(error)) from None
    if not isinstance(sent, dict):
        raise _Bad(Reason.NOT_AN_OBJECT, "", "a click is a JSON object")
    _check_version(sent)
    for name in sent:
        if name not in _FIELDS and not name.startswith("x_"):
            raise _Bad(Reason.FIELD_UNKNOWN, _shown(name), "unknown field; names of custom fields begin with x_")
    thing = _text(sent, "thing", required=True, length_max=THING_LENGTH_MAX)
    action = _text(sent, "action") or "flattr"
    if action not in _ACTIONS:
        raise _Bad(Reason.FIELD_VALUE, "action", f"one of {', '.join(_ACTIONS)}")
    return _Wire(
        creator_id=_text(sent, "creator_id", required=True, length_max=ID_LENGTH_MAX) or "",
        thing=thing or "",
        click_id=_text(sent, "click_id"),
        action=action,  # type: ignore[arg-type] # one of _ACTIONS, checked above
        member_id=_text(sent, "member_id"),
        site_id=_text(sent, "site_id", length_max=ID_LENGTH_MAX),
        clicked_at=_sent_time(sent, "clicked_at"),
        sent_at=_sent_time(sent, "sent_at"),
        until=_text(sent, "until"),
    )


def _check_version(sent: dict[str, Any]) -> None:
    version = sent.get("v", VERSION)
    if isinstance(version, bool) or not isinstance(version, int):
        raise _Bad(Reason.FIELD_TYPE, "v", "the version must be a whole number")
    if version != VERSION:
        raise _Bad(Reason.VERSION_UNKNOWN, "v", f"only version {VERSION} is supported")


def _text(sent: dict[str, Any], name: str, *, required: bool = False, length_max: int = 4096) -> str | None:
    value = sent.get(name)
    if value is None and name in sent and name in ("thing", "creator_id", "action"):
        raise _Bad(Reason.FIELD_TYPE, name, "must be a string")
    if value is None:
        if required:
            raise _Bad(Reason.FIELD_MISSING, name, "this field is required")
        return None
    if not isinstance(value, str):
        raise _Bad(Reason.FIELD_TYPE, name, "must be a string")
    if len(value) > length_max:
        raise _Bad(Reason.FIELD_TOO_LONG, name, f"{len(value)} characters; the maximum is {length_max}")
    if not value and name in ("thing", "action"):
        raise _Bad(Reason.FIELD_VALUE, name, "must not be empty")
    return value


def _sent_time(sent: dict[str, Any], name: str) -> int | str | None:
    value = sent.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | str)):
        raise _Bad(Reason.FIELD_TYPE, name, "must be milliseconds since 1970 as a whole number, or RFC 3339")
    return value


def _shown(name: str) -> str:
    """A field's name for an answer: bounded, and valid UTF-8 even if it contained a lone surrogate."""
    return name[:64].encode("utf-8", "replace").decode()


def _plain(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    return str(error)[:200]
