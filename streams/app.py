"""The Faust app: two agents, the pipeline they feed, and the health endpoint."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast

import faust
import structlog
from aiokafka.errors import KafkaConnectionError, KafkaError
from faust.types import TP
from faust.types.auth import CredentialsT

from ingest.contract.position import position
from ingest.runtime.backoff import backoff_s
from ingest.runtime.clock import clock_from
from ingest.runtime.garbage import collect_rarely
from ingest.runtime.kafka_settings import client_security
from ingest.runtime.repeated import Repeated
from ingest.runtime.trace_settings import TraceSettings
from ingest.runtime.tracing import traces_from
from streams.counting.count_batch import rules_from
from streams.errors import StreamStopped
from streams.operating.health import Health
from streams.operating.lag import LagTracker
from streams.operating.malformed_guard import MalformedGuard
from streams.operating.metrics import Metrics
from streams.operating.silence import Silence
from streams.pipeline import Pipeline
from streams.retry import patiently
from streams.settings import StreamsSettings
from streams.sink.writer import LANES, Writer
from streams.source.faust_consumer import ChunkConsumer, ChunkTransport
from streams.source.log_partitions import check_grown, check_not_moving, in_use, note_partitions
from streams.source.topics import partitions_found
from streams.state.memory import Memory
from warehouse.storage.client import Warehouse
from warehouse.storage.errors import WarehouseError
from warehouse.storage.identity_key import read_identity_key

_log = structlog.get_logger()
_outages = Repeated(_log)
#: Readers merge rows anyway, as a click may be written twice; merging in each insert costs a sixth of its time.
UNMERGED: Final = {"optimize_on_insert": 0}
_METADATA_MAX_AGE_MS = 5_000
#: How long the broker may take to tell the log's ends.
_ENDS_MAX_S: Final = 5.0
_AWAY_FIRST_S, _AWAY_MAX_S = 0.5, 5.0


def _nothing(_step: str) -> None: ...


class Worker:
    """One stream worker: builds the app, runs it, and remembers why it stopped."""

    def __init__(
        self,
        settings: StreamsSettings,
        partitions: int,
        after_step: Callable[[str], None] = _nothing,
        trace_settings: TraceSettings | None = None,
    ) -> None:
        self.settings = settings
        self.traces = traces_from(trace_settings, "streams")
        self.failure: StreamStopped | None = None
        self._stating_ends: asyncio.Future[None] | None = None
        self.clock = clock_from(settings.clock)
        self.warehouse = Warehouse(settings.warehouse_url, timeout_s=settings.warehouse_timeout_s, settings=UNMERGED)
        self.writer = Writer(self.warehouse, patience_s=settings.streams_patience_s, after_step=after_step, lanes=LANES)
        self.rules = rules_from(settings, partitions)
        self.metrics = Metrics()
        self.memory = Memory(settings.streams_state_max_mb << 20, settings.streams_spill_folder)
        self.lag = LagTracker(settings.streams_stall_s, self.metrics)
        self.metrics.kafka_silent_s.set_function(self.lag.silence_s)
        self.asked_warehouse = Silence("the warehouse", settings.streams_stall_s)
        self.health = Health(settings.streams_host, settings.streams_port, self.metrics, self._missing)
        self.app = self._app()

    def run(self) -> None:
        """Run until SIGTERM or a failure. Raises the failure or ``WarehouseError``, with a message for the operator."""
        patiently(read_identity_key, self.warehouse)
        patiently(check_not_moving, self.warehouse, self.settings.log_epoch)
        patiently(note_partitions, self.warehouse, self.settings.log_epoch, self.rules.partitions)
        worker = faust.Worker(
            self.app, loglevel="WARN", override_logging=False, redirect_stdouts=False, quiet=True, daemon=True
        )
        worker.spinner = None
        collect_rarely()
        for noisy in ("faust", "mode", "aiokafka"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        try:
            worker.execute_from_commandline()
        except SystemExit as ended:
            if self.failure is None and ended.code:
                raise StreamStopped(f"the worker exited with code {ended.code}; see the log above") from ended
        finally:
            self.pipeline.close()
            if self.traces is not None:
                self.traces.close()
        if self.failure is not None:
            raise self.failure

    def _missing(self) -> list[str]:
        if self.failure is not None:
            return [str(self.failure)]
        if silent := self.lag.silent():
            return silent
        if self.app.rebalancing or not self.pipeline.taken_over:
            return ["partitions are being assigned"]
        return [*self.asked_warehouse.told(), *self.lag.stalled()]

    def _state_log_ends(self, ends: Mapping[int, int]) -> None:
        """Write the log's ends, which the read API shows beside every count. A failure is only logged."""
        if not ends:
            self.asked_warehouse.answered()
            return
        try:
            self.warehouse.insert(
                "log_ends",
                {
                    "partition": list(ends),
                    "seen_at": [self.clock()] * len(ends),
                    "end_position": [position(self.settings.log_epoch, end, 0) for end in ends.values()],
                },
            )
        except WarehouseError as error:
            self.asked_warehouse.failed(str(error))
            _outages.warning("cannot write the log's ends; the read API shows an older lag", error=str(error))
        else:
            self.asked_warehouse.answered()

    async def _observe(self, app: faust.App) -> None:
        topic = self.settings.topic_clicks
        self._look_at_partitions(app.consumer.topic_partitions(topic))
        tps = {TP(topic, number) for number in self.pipeline.assignments}
        try:
            # A worker without partitions asks as well, to know that Kafka is there.
            ends = await cast("ChunkConsumer", app.consumer).log_ends(tps or {TP(topic, 0)}, _ENDS_MAX_S)
        except (KafkaError, TimeoutError) as error:
            self.lag.unheard = str(error) or f"no answer within {_ENDS_MAX_S:.0f} s"
            return
        ends = {tp: end for tp, end in ends.items() if tp in tps}
        by_partition = {tp.partition: end for tp, end in ends.items()}
        self.lag.observe(self.pipeline.counted, by_partition, self.pipeline.holding())
        # A warehouse that is away has its own patience.
        if (starved := self.lag.starved()) and not self.asked_warehouse.told():
            self.fail(StreamStopped(starved))
        # Not waited for: a warehouse that hangs must not look like a Kafka that is silent.
        if self._stating_ends is None or self._stating_ends.done():
            self.asked_warehouse.ask()
            self._stating_ends = asyncio.get_running_loop().run_in_executor(None, self._state_log_ends, by_partition)
        self.metrics.state_flattrs.set(sum(each.state.flattrs for each in self.pipeline.assignments.values()))
        self.metrics.state_bytes.set(self.memory.held_bytes)
        self.metrics.spilled_bytes.set(self.memory.spilled_bytes)

    def _look_at_partitions(self, found: int | None) -> None:
        """Stop if the topic's number of partitions, where the consumer knows one, is another than at the start."""
        if not found or self.settings.log_partitions:
            return
        try:
            check_grown(self.rules.partitions, found)
        except StreamStopped as error:
            self.fail(error)

    def _ask_partitions(self) -> None:
        """Raise ``StreamStopped`` if the topic has another number of partitions by now. Blocks."""
        if not self.settings.log_partitions:
            check_grown(self.rules.partitions, asyncio.run(partitions_of(self.settings)))

    def fail(self, error: StreamStopped) -> None:
        """Stop the worker. Only the first failure is reported."""
        if self.failure is None:
            self.failure = error
            _log.error("the worker stops", reason=str(error))
            # If a graceful stop hangs, exit hard: whatever was not acknowledged is counted again.
            last_resort = threading.Timer(3 * self.settings.streams_drain_s, os._exit, (1,))
            last_resort.daemon = True
            last_resort.start()
            os.kill(os.getpid(), signal.SIGTERM)

    def _app(self) -> faust.App:
        settings = self.settings
        app = faust.App(settings.streams_group, **faust_options(settings))
        transport = ChunkTransport(app.conf.broker_consumer, app)
        transport.chunk_bytes_max = settings.streams_fetch_bytes
        transport.traced = self.traces is not None
        app.transport = transport
        clicks = app.topic(settings.topic_clicks, value_serializer="raw", key_serializer="raw")
        refused = app.topic(settings.topic_rejected, value_serializer="raw", key_serializer="raw")

        @app.task  # type: ignore[untyped-decorator]  # Faust's
        async def run() -> None:
            await self.health.start()
            await self.pipeline.run()

        @app.timer(interval=1.0)  # type: ignore[untyped-decorator]  # Faust's
        async def observe() -> None:
            await self._observe(app)

        @app.agent(clicks)
        async def count(stream: Any) -> None:  # noqa: ANN401 - Faust's interface has no noack
            async for event in stream.noack().events():
                message = event.message
                try:
                    await self.pipeline.take(message.tp, event.value, functools.partial(message.ack, app.consumer))
                except StreamStopped as error:
                    self.fail(error)

        @app.agent(refused)
        async def keep_rejections(stream: Any) -> None:  # noqa: ANN401 - Faust's interface has no noack
            async for event in stream.noack().events():
                try:
                    await self.pipeline.take_rejections(event.message.tp, event.value)
                    event.message.ack(app.consumer)
                except StreamStopped as error:
                    self.fail(error)

        self.pipeline = Pipeline(
            self.warehouse,
            self.writer,
            self.rules,
            self.clock,
            flush_ms=settings.streams_flush_ms,
            flush_bytes=settings.streams_flush_bytes,
            drain_s=settings.streams_drain_s,
            fail=self.fail,
            memory=self.memory,
            malformed=MalformedGuard(settings.streams_malformed_max),
            ask_partitions=self._ask_partitions,
            metrics=self.metrics,
            traces=self.traces,
        )
        transport.positions = self.pipeline
        return app


def faust_options(settings: StreamsSettings) -> dict[str, Any]:
    """Faust's settings: no tables, no leader topic, no web server, our session timeout."""
    return {
        "broker": [f"kafka://{address.strip()}" for address in settings.broker.split(",")],
        "broker_credentials": _credentials(settings),
        "broker_session_timeout": settings.streams_session_timeout_s,
        "broker_heartbeat_interval": settings.streams_session_timeout_s / 3,
        "broker_commit_interval": 1.0,
        # A broker that has just restarted may report no partitions; a worker that joins then would idle until the next
        # metadata refresh, by default five minutes later.
        "consumer_metadata_max_age_ms": _METADATA_MAX_AGE_MS,
        "consumer_auto_offset_reset": "earliest",
        "consumer_max_fetch_size": settings.streams_fetch_bytes,
        "table_standby_replicas": 0,
        "topic_disable_leader": True,
        "topic_allow_declare": False,
        "web_enabled": False,
        "stream_buffer_maxsize": 8,
        "stream_wait_empty": True,
        "datadir": Path(tempfile.gettempdir()) / f"flattr-streams-{os.getpid()}",
        "worker_redirect_stdouts": False,
    }


async def partitions_of(settings: StreamsSettings) -> int:
    """How many partitions of the clicks topic are in use.

    Raises ``StreamStopped`` if there are fewer, no such topic, or the broker is unreachable.
    """
    found = await partitions_found(settings, settings.topic_clicks)
    if not found:
        raise StreamStopped(
            f"no topic {settings.topic_clicks!r} at {settings.broker}: create it with `flattr topics create`"
        )
    return in_use(settings, found)


def create_app(settings: StreamsSettings) -> faust.App:
    """The bare Faust app, to run it by other means."""
    return worker_from(settings).app


def worker_from(settings: StreamsSettings, after_step: Callable[[str], None] = _nothing) -> Worker:
    """A worker for the partitions in use, once Kafka answers. Raises ``StreamStopped``."""
    trace_settings = TraceSettings()  # before Kafka is waited for: a wrong setting must be told at once
    return Worker(settings, asyncio.run(_partitions_when_there(settings)), after_step, trace_settings)


async def _partitions_when_there(settings: StreamsSettings) -> int:
    """As ``partitions_of``, but a Kafka that is away is waited for: a worker has nothing else to do."""
    attempt = 0
    while True:
        try:
            return await partitions_of(settings)
        except StreamStopped as error:
            if not isinstance(error.__cause__, KafkaConnectionError):
                raise
            _outages.warning("Kafka is away; this worker waits for it", reason=str(error))
            await asyncio.sleep(backoff_s(attempt, first_s=_AWAY_FIRST_S, max_s=_AWAY_MAX_S))
            attempt += 1


def _credentials(settings: StreamsSettings) -> CredentialsT | None:
    """Faust's credentials for the broker; None without TLS and SASL."""
    client = client_security(settings)
    context = client.get("ssl_context")
    if "sasl_mechanism" in client:
        return faust.SASLCredentials(
            username=client["sasl_plain_username"],
            password=client["sasl_plain_password"],
            mechanism=client["sasl_mechanism"],
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context else None
