"""The hot path: POST /v1/clicks as a raw ASGI route, without a framework between socket and queue.

What happens to a request: its token is looked up, its body read and decoded, its clicks handed to the
publisher as one chunk per partition; the answer comes when the broker has them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import structlog
from aiokafka.partitioner import murmur2

from ingest.bucket import Bucket
from ingest.click import Click, Reason, Rejection, encode
from ingest.clock import Clock
from ingest.metrics import Metrics
from ingest.publisher import Placed, Publisher
from ingest.refusal import Refusal, Refused, problem
from ingest.settings import IngestSettings
from ingest.tokens import Tokens
from ingest.validate import Validator

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_BEARER: Final = b"bearer "
_JSON: Final = (b"content-type", b"application/json")
_PROBLEM: Final = (b"content-type", b"application/problem+json")
_RETRY_AFTER: Final = (b"retry-after", b"2")
_PARTITIONS_REMEMBERED: Final = 200_000
_DETAILS: Final = {
    Reason.BROKER_UNAVAILABLE: "the broker did not take it in time: send it again with the same click_id",
    Reason.QUEUE_FULL: "too much is waiting for the broker: send it again with the same click_id",
    Reason.DRAINING: "this server is stopping: send it again with the same click_id",
}
_encoder = msgspec.json.Encoder()
_log = structlog.get_logger(__name__)


class Receipt(msgspec.Struct, gc=False):
    """Where an accepted click is: the position of its record, and its line in it."""

    item: int
    click_id: str
    partition: int
    offset: int | None
    index: int


class Taken(msgspec.Struct):
    """The body of a 202: a verdict on every item, by its index in the request."""

    receipts: list[Receipt]
    refused: list[Refusal]


class _Disconnected(Exception):
    """The client went away before its request was whole: there is nobody to answer."""


class Request:
    """What the hot path needs of a request's headers."""

    __slots__ = ("content_type", "encoding", "length", "method", "token")

    def __init__(self, scope: Scope) -> None:
        self.method: str = scope["method"]
        self.content_type = b""
        self.encoding = b""
        self.length = 0
        self.token = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                if value[:7].lower() == _BEARER:
                    self.token = value[7:].strip()
            elif name == b"content-type":
                self.content_type = value.partition(b";")[0].strip().lower()
            elif name == b"content-length":
                self.length = int(value)
            elif name == b"content-encoding":
                self.encoding = value.strip().lower()

    def check_method(self) -> None:
        """Raise ``Refused`` unless it is a POST."""
        if self.method != "POST":
            raise Refused(Reason.METHOD_NOT_ALLOWED, "clicks are POSTed")


@dataclass(frozen=True, slots=True)
class Parts:
    """What the beacon works with."""

    settings: IngestSettings
    publisher: Publisher
    tokens: Tokens
    validator: Validator
    clock: Clock
    metrics: Metrics


class Beacon:
    """The ASGI app behind /v1/clicks."""

    def __init__(self, parts: Parts) -> None:
        self._settings = settings = parts.settings
        self._publisher = parts.publisher
        self._tokens = parts.tokens
        self._validator = parts.validator
        self._clock = parts.clock
        self._metrics = parts.metrics
        self._partitions: dict[str, int] = {}
        self._kept = Bucket(settings.rejected_per_s, settings.rejected_per_s, time.monotonic())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Nothing but a bug of ours makes a 500 here."""
        self._metrics.requests.inc()
        request = Request(scope)
        body = bytearray()
        member_id = ""
        try:
            request.check_method()
            await self._read(request, receive, body)
            started = time.perf_counter()
            member_id = self._tokens.member(request.token).member_id
            verdicts = self._validator.read(bytes(body), request.content_type, member_id, self._clock())
            taken = await self._publish(verdicts)
        except Refused as refused:
            await self._refuse(send, [refused.refusal], bytes(body), member_id)
            return
        except _Disconnected:
            return
        if taken.refused:
            self._note(taken.refused, request, bytes(body), member_id)
        if taken.receipts:
            self._metrics.accepted.inc(len(taken.receipts))
            await _respond(send, 202, [_JSON], _encoder.encode(taken))
        else:
            await _respond_problem(send, taken.refused)
        self._metrics.answer_seconds.observe(time.perf_counter() - started)

    async def _read(self, request: Request, receive: Receive, body: bytearray) -> None:
        if request.length > self._settings.body_max_bytes:
            raise Refused(Reason.BODY_TOO_LARGE, f"at most {self._settings.body_max_bytes} bytes are taken")
        if request.encoding not in (b"", b"identity"):
            raise Refused(Reason.ENCODING_UNSUPPORTED, "send the body as it is")
        try:
            async with asyncio.timeout(self._settings.body_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Disconnected
                    body += message.get("body", b"")
                    if len(body) > self._settings.body_max_bytes:
                        raise Refused(Reason.BODY_TOO_LARGE, f"at most {self._settings.body_max_bytes} bytes are taken")
                    if not message.get("more_body", False):
                        return
        except TimeoutError:
            raise Refused(Reason.BODY_TIMEOUT, "the body did not arrive in time") from None

    async def _publish(self, verdicts: list[Click | Refusal]) -> Taken:
        """Hand the clicks over, chunk by partition, and wait until each has its place."""
        refused = [verdict for verdict in verdicts if isinstance(verdict, Refusal)]
        chunks: dict[int, list[tuple[int, Click]]] = {}
        for item, verdict in enumerate(verdicts):
            if isinstance(verdict, Click):
                chunks.setdefault(self._partition(verdict.member_id), []).append((item, verdict))
        answers = [
            self._publisher.submit(partition, b"\n".join([encode(click) for _, click in clicks]), len(clicks))
            for partition, clicks in chunks.items()
        ]
        receipts: list[Receipt] = []
        for answer, clicks in zip(answers, chunks.values(), strict=True):
            place = await answer
            if isinstance(place, Placed):
                receipts += [
                    Receipt(item, click.click_id, place.partition, place.offset, index)
                    for index, (item, click) in enumerate(clicks, place.index)
                ]
            else:
                refused += [Refusal(place, _DETAILS[place], item) for item, _ in clicks]
        return Taken(receipts, refused)

    def _partition(self, member_id: str) -> int:
        """Kafka's own: murmur2 of the key. Remembered, for it is pure Python."""
        if not self._publisher.partitions:
            return 0
        known = self._partitions.get(member_id)
        if known is None:
            if len(self._partitions) >= _PARTITIONS_REMEMBERED:
                self._partitions.clear()
            known = self._partitions[member_id] = murmur2(member_id.encode()) & 0x7FFFFFFF
        return known % self._publisher.partitions

    async def _refuse(self, send: Send, refused: list[Refusal], body: bytes, member_id: str) -> None:
        for refusal in refused:
            self._metrics.refused[refusal.reason].inc()
            self._keep(refusal, body, member_id)
        await _respond_problem(send, refused)

    def _note(self, refused: list[Refusal], request: Request, body: bytes, member_id: str) -> None:
        """Count refused items, and keep each with its own bytes."""
        raws = self._validator.raws(body, request.content_type)
        for refusal in refused:
            self._metrics.refused[refusal.reason].inc()
            self._keep(refusal, raws[refusal.item or 0], member_id)

    def _keep(self, refusal: Refusal, raw: bytes, member_id: str) -> None:
        if refusal.reason in _DETAILS:
            return  # the system's fault, not the input's: the client sends it again
        if self._kept.take(1, time.monotonic()) > 0:
            self._metrics.rejections_dropped.inc()
            return
        self._publisher.reject(
            Rejection(
                reason=refusal.reason.value,
                detail=refusal.detail,
                rejected_at=self._clock(),
                raw=raw[: self._settings.rejected_raw_max_bytes],
                item=refusal.item,
                field=refusal.field,
                member_id=member_id,
            )
        )


async def _respond_problem(send: Send, refused: list[Refusal]) -> None:
    status, body = problem(refused)
    headers = [_PROBLEM]
    if status in (429, 503):
        headers.append(_RETRY_AFTER)
    elif status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="flattr"'))
    elif status == 405:
        headers.append((b"allow", b"POST, OPTIONS"))
    elif status in (408, 413):
        # What is left of the body is not read: the connection cannot be used again.
        headers.append((b"connection", b"close"))
    await _respond(send, status, headers, body)


async def _respond(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
