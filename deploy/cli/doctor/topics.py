"""A topic as it is, held against the plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from aiokafka.errors import for_code

from deploy.cli.doctor.findings import Finding, ok, warning, wrong
from deploy.provision.topics import DAY_MS, TopicPlan
from ingest.runtime.topic import TopicSetting

_CREATE: Final = "run `flattr topics create`"
_FOR_EVER: Final = -1
_DAYS_MIN: Final = 35


def look_at_partitions(told: Mapping[str, Any], used: int) -> Iterator[Finding]:
    """Whether each partition has a leader and its replicas. ``used``: how many have to be there; 0: any number."""
    about = f"topic {told['topic']}"
    if told["error_code"]:
        reason = for_code(told["error_code"]).__name__
        yield wrong(about, f"Kafka says {reason}", f"{_CREATE}, and `flattr topics allow`, as a super user")
        return
    partitions = told["partitions"]
    headless = sum(one["leader"] < 0 for one in partitions)
    behind = sum(len(one["isr"]) < len(one["replicas"]) for one in partitions)
    copies = min(len(one["replicas"]) for one in partitions)
    if headless:
        yield wrong(
            about, f"{headless} of {len(partitions)} partitions have no leader", "start the brokers that hold them"
        )
    if behind:
        yield warning(
            about, f"{behind} of {len(partitions)} partitions lack a replica", "see which broker is down or slow"
        )
    if copies < 2:
        yield warning(about, "each record is on one disk alone: it dies with the disk", "replicate over three brokers")
    if used > len(partitions):
        yield wrong(about, f"it has {len(partitions)} partitions, fewer than the {used} in use", "name the right topic")
    if not headless and not behind:
        yield ok(about, f"{len(partitions)} partitions, {copies} replicas, all in sync")


def look_at_topic_settings(plan: TopicPlan, found: Mapping[str, TopicSetting], in_sync: int) -> Iterator[Finding]:
    """Whether records stay long enough, and acknowledged ones on enough disks."""
    about = f"settings of topic {plan.name}"
    problems = [*_retention(about, plan, found), *_replicas(about, found, in_sync), *_others(about, plan, found)]
    yield from problems or [ok(about, "as planned")]


def _retention(about: str, plan: TopicPlan, found: Mapping[str, TopicSetting]) -> Iterator[Finding]:
    retained_ms = int(found["retention.ms"].value)
    if plan.retention_bytes == _FOR_EVER:
        if retained_ms != _FOR_EVER and retained_ms < _DAYS_MIN * DAY_MS:
            yield wrong(
                about, f"records leave after {retained_ms / DAY_MS:g} days: a month and its close take {_DAYS_MIN}",
                f"set FLATTR_TOPIC_CLICKS_DAYS and {_CREATE}",
            )  # fmt: skip
        if int(found["retention.bytes"].value) != _FOR_EVER:
            yield wrong(
                about, "records are deleted by size (retention.bytes)", "set it to -1: they are the books' source"
            )
        if (policy := _value(found, "cleanup.policy", "delete")) != "delete":
            yield wrong(about, f"cleanup.policy is {policy}", "set it to delete")
    if plan.retention_chosen and retained_ms != plan.retention_ms:
        yield warning(
            about,
            f"records stay for {retained_ms / DAY_MS:g} days, and {plan.retention_ms / DAY_MS:g} are set",
            _CREATE,
        )


def _replicas(about: str, found: Mapping[str, TopicSetting], in_sync: int) -> Iterator[Finding]:
    least = int(found["min.insync.replicas"].value)
    if in_sync < least:
        yield wrong(
            about, f"{in_sync} replicas are in sync and min.insync.replicas is {least}: Kafka takes no click",
            "start the brokers that are down",
        )  # fmt: skip
    elif in_sync >= 3 and least < 2:
        yield warning(about, "a click is acknowledged that one disk alone has", "set min.insync.replicas to 2")
    elif in_sync == least > 1:
        yield warning(
            about, f"min.insync.replicas is {least} of {in_sync} in sync: without one more broker Kafka takes no click",
            "have more replicas in sync than that",
        )  # fmt: skip


def _others(about: str, plan: TopicPlan, found: Mapping[str, TopicSetting]) -> Iterator[Finding]:
    for name, value in plan.stamps.items():
        if name not in found:
            yield warning(
                about, f"this Kafka has no {name}: clocks that are wrong are not refused", "run Kafka 3.6 or later"
            )
        elif found[name].value != value:
            yield wrong(about, f"{name} is {found[name].value}, not {value}: the month's close depends on it", _CREATE)
    if int(found["max.message.bytes"].value) < plan.record_max_bytes:
        yield wrong(
            about, f"max.message.bytes is {found['max.message.bytes'].value}: a full block is refused",
            f"set it to {plan.record_max_bytes}",
        )  # fmt: skip
    if _value(found, "unclean.leader.election.enable", "false") == "true":
        yield warning(
            about, "a replica that is behind may become leader, and acknowledged clicks be lost",
            "set unclean.leader.election.enable to false",
        )  # fmt: skip


def _value(found: Mapping[str, TopicSetting], name: str, otherwise: str) -> str:
    """A setting's value; brokers that are not Apache Kafka do not have all."""
    return found[name].value if name in found else otherwise
