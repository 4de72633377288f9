"""The figures that `flattr bench report` shows, what each means, and what is wanted of it.

The one place of the goals. A figure without a goal is shown because a reader asks for it. ``key`` is the name under
which the benchmark prints it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal


@dataclass(frozen=True)
class Goal:
    """``bound`` is a number, yes or no, or the key of another figure of the same file."""

    direction: Literal["≥", "≤", "="]
    bound: float | str


@dataclass(frozen=True)
class Figure:
    """One figure. ``headline`` is its line in the README, where five at most may stand."""

    key: str
    meaning: str
    unit: str = ""
    goal: Goal | None = None
    headline: str = ""


@dataclass(frozen=True)
class Bench:
    """One JSON file.

    ``needs`` is the size of run that the goals are for: numbers at least that, of lists and dicts their length; words
    exactly that.
    """

    name: str
    title: str
    command: str
    figures: tuple[Figure, ...]
    needs: Mapping[str, float | str] = field(default_factory=dict)


def at_least(bound: float) -> Goal:
    """More is better."""
    return Goal("≥", bound)


def at_most(bound: float) -> Goal:
    """Less is better."""
    return Goal("≤", bound)


def equal(bound: float | str) -> Goal:
    """Nothing else will do."""
    return Goal("=", bound)


_NONE: Final = equal(0)

_STREAMS: Final = Bench(
    "streams",
    "Streams",
    "flattr bench streams",
    (
        Figure(
            "clicks_per_s",
            "clicks that one worker counts, in blocks of 200, into an empty warehouse",
            "clicks/s",
            headline="clicks counted by one stream worker",
        ),
        Figure(
            "ratio_to_floor",
            "of a bare loop that fetches, decodes and inserts: no dedupe, no counts, nothing exact",
            goal=at_least(0.95),
        ),
        Figure("single_clicks_per_s", "the same with one click to a record", "clicks/s"),
        Figure("single_to_plain", "of that, against a plain Faust application", "times", at_least(45)),
        Figure("ratio_at_10m", "speed with ten million flattrs in memory, of the speed with none"),
        Figure(
            "visible_ms_p50",
            "from Kafka's acknowledgement to the readable count, at half of full load: median",
            "ms",
            at_most(250),
        ),
        Figure(
            "visible_ms_p99",
            "the same, for the slowest of a hundred",
            "ms",
            at_most(450),
            headline="from acknowledged click to readable count at half of full load, p99",
        ),
        Figure("recover_s", "to load ten million flattrs from the warehouse, in memory that was used before", "s"),
        Figure(
            "recover_first_to_select",
            "loading them for the first time, against a plain SELECT of the rows",
            "times",
            at_most(1.5),
        ),
        Figure(
            "recover_to_select", "the second time, when the kernel has handed out the memory", "times", at_most(1.3)
        ),
        Figure("bytes_per_flattr", "memory for exact dedupe", "bytes", at_most(40)),
        Figure("bytes_per_flattr_with_counts", "memory with all counts by creator, thing and member", "bytes"),
    ),
    {"broker": "kafka", "state_flattrs": 10_000_000},
)

_INGEST: Final = Bench(
    "ingest",
    "Ingest",
    "flattr bench ingest",
    (
        Figure(
            "requests_per_s",
            "requests of one click each that one worker answers 202, after acks=all",
            "requests/s",
            headline="single clicks answered 202 after acks=all, one ingest worker",
        ),
        Figure("ratio_to_bare", "of what a server reaches under uvicorn that does nothing", goal=at_least(0.62)),
        Figure(
            "ratio_to_naive", "against a plain FastAPI route that awaits Kafka for each click", "times", at_least(6.5)
        ),
        Figure("batch_clicks_per_s", "clicks accepted at 100 a request", "clicks/s", at_least(220_000)),
        Figure("p99_ms", "latency at full load, for the slowest of a hundred", "ms"),
        Figure("half_load_p50_ms", "latency at half of full load, open loop: median", "ms", at_most(2.5)),
        Figure("half_load_p99_ms", "the same, for the slowest of a hundred", "ms", at_most(12)),
        Figure(
            "bare_half_load_p99_ms", "the server that does nothing, at the same rate: the machine's part of it", "ms"
        ),
        Figure("cpu_us_per_request", "processor time of a request, producer included", "us"),
        Figure("bare_cpu_us_per_request", "of a request that does nothing", "us"),
        Figure("not_202", "answers other than 202", "answers", _NONE),
        Figure("soak_memory_growth_percent", "growth of memory over minutes at half load", "%"),
    ),
    {"broker": "kafka"},
)

_CLOSE: Final = Bench(
    "close",
    "Month close",
    "flattr bench close",
    (
        Figure("flattrs", "flattrs of the month that is closed", "flattrs"),
        Figure("creators", "creators who are paid", "creators"),
        Figure(
            "close_s",
            "from the command to the seal",
            "s",
            headline="close of a month of ten million pairs of member and creator",
        ),
        Figure("ratio_to_scan", "against one plain GROUP BY over the same rows", "times", at_most(3.5)),
        Figure("doubling", "time for all pairs, of the time for half of them", "times", at_most(1.9)),
        Figure("balanced", "charged = paid + fee + held + carried + charity, to the micro-euro", "", equal(True)),
        Figure("peak_memory_mb", "most memory of the warehouse meanwhile", "MB"),
    ),
    {"pairs": 10_000_000},
)

_READS: Final = Bench(
    "reads",
    "Reads",
    "flattr bench reads",
    (
        Figure(
            "creator_counts_p99_ms",
            "a creator's counts at 200 reads a second beside writes, slowest of a hundred",
            "ms",
            at_most(25),
        ),
        Figure("thing_counts_p99_ms", "a thing's", "ms", at_most(25)),
        Figure("member_counts_p99_ms", "a member's", "ms", at_most(25)),
        Figure("counts_per_s", "counts that the API answers as fast as it can", "counts/s", at_least(1500)),
        Figure("counts_failed", "of them, not answered 200", "answers", _NONE),
        Figure("counters_from_cache_per_s", "pages of twenty buttons, counters in the API's cache", "pages/s"),
        Figure("counters_from_warehouse_per_s", "the same without the cache", "pages/s"),
        Figure(
            "subscribers_served",
            "listeners of the live stream who were told a count",
            "listeners",
            equal("subscribers"),
        ),
        Figure("count_to_event_p99_ms", "from a count's write to its event, slowest of a hundred", "ms"),
    ),
    {"flattrs": 10_000_000},
)

_HOSTILE: Final = Bench(
    "hostile",
    "Under attack",
    "flattr bench hostile",
    (
        Figure("memory_growth_mb", "most memory that an attack takes from the attacked process", "MB", at_most(64)),
        Figure(
            "honest_p99_ratio",
            "latency of honest requests during the worst attack, of that before it",
            "times",
            at_most(3),
        ),
        Figure("honest_refused", "honest requests that were refused", "requests"),
        Figure(
            "honest_lost", "acknowledged honest clicks that the warehouse does not know in the end", "clicks", _NONE
        ),
        Figure("forged_identity", "counts that were moved by a creator's forged name", "counts", _NONE),
        Figure("kept_mb_a_day", "what requests without a token leave on disk", "MB a day", at_most(100)),
    ),
    {"seconds": 10, "attacks": 29},
)

_TRACES: Final = Bench(
    "traces",
    "Traces",
    "flattr bench traces",
    (
        Figure("off_us", "processor time of a request in the beacon, traces off", "us"),
        Figure("not_drawn_us", "on, and the request is not sampled", "us"),
        Figure("all_drawn_us", "on, and every request is sampled", "us"),
    ),
)

_FLEET: Final = Bench(
    "fleet",
    "Many nodes",
    "flattr bench fleet",
    (
        Figure(
            "seals_equal",
            "three months end on 2 x 2 nodes in the bytes in which they end on one server",
            "",
            equal(True),
        ),
        Figure(
            "failover_s", "a replica of three killed under a worker, until what came next is counted", "s", at_most(10)
        ),
        Figure(
            "returned_s", "a replica of two started again, until all that waited for it is counted", "s", at_most(10)
        ),
        Figure("restore_verified", "three closed months verify after a lost disk and a restore", "", equal(True)),
        Figure("restore_s", "and how long that restore took", "s"),
        Figure("flush_ms_p50_one", "a flush of 1,000 clicks to one server", "ms"),
        Figure("flush_ms_p50_cluster", "and to the cluster, with a quorum of two", "ms"),
        Figure("close_s_one", "a close of one of these months on one server", "s"),
        Figure("close_s_cluster", "and on the cluster", "s"),
        Figure("workers_1_clicks_per_s", "clicks that one worker counts while they are written", "clicks/s"),
        Figure("workers_efficiency", "two workers, of twice that: here they share two cores with all else"),
        Figure("grow_s", "a log moved to twice as many partitions under load, until services may begin again", "s"),
        Figure("grow_lost", "accepted clicks that are missing after it", "clicks", _NONE),
        Figure("grow_wrong", "counts, tallies and places that are not those of the logs", "findings", _NONE),
        Figure("chaos_faults", "faults of a chaos run with replicas", "faults"),
        Figure("chaos_lost", "accepted clicks that are missing after it", "clicks", _NONE),
        Figure("chaos_double_counted", "clicks that were counted twice", "clicks", _NONE),
        Figure("chaos_wrong_counts", "counts that are not those of the log", "counts", _NONE),
    ),
    {"chaos_faults": 60, "seals_months": 3},
)

_OUTAGE: Final = Bench(
    "outage",
    "Outages",
    "flattr bench outage",
    (
        Figure("not_ready_max_s", "a part killed or frozen, until the services that need it say so: the slowest", "s"),
        Figure("back_max_s", "the part back, until a new click is counted: the slowest", "s", at_most(10)),
        Figure("log_lines_per_min_max", "lines that the most talkative log grew by meanwhile", "lines a minute"),
        Figure("lost", "accepted clicks that are missing after all of it", "clicks", _NONE),
        Figure("double_counted", "clicks that were counted twice", "clicks", _NONE),
    ),
    {"outages": 8, "outage_s": 60},
)

_GROWTH: Final = Bench(
    "growth",
    "Growth and scale",
    "flattr bench growth",
    (
        Figure("close_exponent", "time of a close by the month's pairs, over the sizes measured"),
        Figure("close_memory_exponent", "its peak memory by the pairs"),
        Figure("state_recover_exponent", "time to load a worker's state by its flattrs"),
        Figure("state_rate_exponent", "clicks a second by the flattrs in memory; 0: size does not matter"),
        Figure("ingest_1_per_s", "requests that one process of ingest answers", "requests/s"),
        Figure("ingest_efficiency", "two processes of ingest, of twice that: they share two cores with all else"),
        Figure("api_counts_1_per_s", "counts that one process of the read API answers", "counts/s"),
        Figure("api_counts_efficiency", "two processes, of twice that, in the same way"),
    ),
)

_FUZZ: Final = Bench(
    "fuzz",
    "Hostile input",
    "flattr bench fuzz",
    (
        Figure("status_5xx", "answers with a server error", "answers", _NONE),
        Figure("without_reason", "refusals without a reason code", "answers", _NONE),
        Figure("unanswered", "requests without an answer", "requests", _NONE),
        Figure(
            "accepted", "clicks that were acknowledged, against those that stand in the log", "clicks", equal("in_log")
        ),
        Figure("memory_growth_percent", "growth of memory from the first tenth to the end", "%"),
    ),
    {"inputs": 1_000_000, "broker": "kafka"},
)

_SOAK: Final = Bench(
    "soak",
    "An hour at half load",
    "flattr bench soak",
    (
        Figure("half_requests_per_s", "load", "requests/s"),
        Figure("lag_s_p99", "how far counts are behind the log, slowest of a hundred looks", "s"),
        Figure("wrong", "equations of `flattr verify` that do not hold at the end", "equations", _NONE),
    ),
    {"seconds": 3500},
)

_FAULTS: Final = (
    Figure("acked", "clicks that were acknowledged under faults", "clicks"),
    Figure("double_counted", "clicks that count twice", "clicks", _NONE),
    Figure("wrong_counts", "counts that differ from what the log says", "counts", _NONE),
    Figure("altered", "clicks that stand otherwise than they were sent", "clicks", _NONE),
    Figure("wrong_receipts", "receipts that name another click", "receipts", _NONE),
    Figure("months_closed", "months that were closed meanwhile", "months"),
    Figure("balanced", "each of them balances to the micro-euro", "", equal(True)),
)
_LOST: Final = "acknowledged clicks that were lost"

_CHAOS: Final = Bench(
    "chaos",
    "Under faults, one Kafka node",
    "flattr chaos --faults 200 --seed 1",
    (
        Figure(
            "lost",
            _LOST,
            "clicks",
            _NONE,
            headline="acknowledged clicks lost under 200 faults (kills, cuts, full disks, clock steps)",
        ),
        *_FAULTS,
    ),
    {"faults": 200, "brokers": 1},
)

_CHAOS_3: Final = Bench(
    "chaos-3",
    "Under faults, three Kafka nodes",
    "flattr chaos --faults 200 --seed 2 --brokers 3",
    (Figure("lost", _LOST, "clicks", _NONE), *_FAULTS),
    {"faults": 200, "brokers": 3},
)

_RIVALS: Final = Bench(
    "rivals",
    "Beside others",
    "flattr bench rivals",
    (
        Figure(
            "ratio_to_go",
            "single clicks a second of one ingest worker, of those of a collector in Go on one core",
            goal=at_least(0.9),
        ),
        Figure("cpu_ratio_to_go", "the Go collector's processor time of a request, of ours"),
        Figure("ingest_requests_per_s", "requests of one click each that our worker answers 202", "requests/s"),
        Figure("go_requests_per_s", "and the Go collector", "requests/s"),
        Figure("ingest_p50_ms", "our latency at 1,000 requests a second: median", "ms", at_most(1.5)),
        Figure("ingest_p99_ms", "the same, for the slowest of a hundred", "ms", at_most(4)),
        Figure("go_p50_ms", "the Go collector's: median", "ms"),
        Figure("go_p99_ms", "the same, for the slowest of a hundred", "ms"),
        Figure("ours_blocks_per_s", "clicks that one worker counts in blocks of 200, into ClickHouse", "clicks/s"),
        Figure(
            "blocks_to_kafka_streams", "of that, against Kafka Streams exactly once on two threads, compiled", "times"
        ),
        Figure("blocks_to_bytewax", "against Bytewax with recovery", "times"),
        Figure("ours_singles_per_s", "the same with one click to a record", "clicks/s"),
        Figure("singles_to_kafka_streams", "of that, against Kafka Streams", "times", at_least(1.5)),
        Figure("singles_to_bytewax", "against Bytewax", "times"),
        Figure("ours_blocks_memory_mb", "most memory of our worker, counting blocks", "MB"),
        Figure("kafka_streams_blocks_memory_mb", "of Kafka Streams", "MB"),
        Figure("bytewax_blocks_memory_mb", "of Bytewax", "MB"),
        Figure("close_s", "close of the month, with recount, ledger and seal", "s"),
        Figure("split_s", "the part of it that the rivals do: pools, shares, takes", "s"),
        Figure("duckdb_split_to_ours", "DuckDB's time for the split, of ours", "times"),
        Figure("duckdb_split_to_close", "of our whole close", "times"),
        Figure("polars_split_to_ours", "Polars' time for the split, of ours", "times"),
        Figure("polars_split_to_close", "of our whole close", "times"),
        Figure("wrong", "counts, amounts and records in which any of them differs from ours", "", _NONE),
        Figure("missing", "rivals that this machine could not have", "rivals"),
    ),
    {"broker": "kafka", "clicks": 1_200_000, "singles": 600_000, "pairs": 10_000_000},
)

BENCHES: Final = (
    _INGEST,
    _STREAMS,
    _CLOSE,
    _READS,
    _HOSTILE,
    _TRACES,
    _FUZZ,
    _SOAK,
    _CHAOS,
    _CHAOS_3,
    _FLEET,
    _GROWTH,
    _OUTAGE,
    _RIVALS,
)
