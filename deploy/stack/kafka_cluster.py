"""Several Apache Kafka nodes as one cluster, each with an advertised address chosen by the caller.

Clients and nodes use different listeners. So a proxy in front of a node's client listener, whose address the node
advertises, can cut or slow down clients without affecting replication.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deploy.stack.embedded import HOST, ApacheKafka, free_port


class KafkaNode(ApacheKafka):
    """One node of a cluster, broker and controller in one, with short timeouts so that elections take seconds."""

    def __init__(self, folder: Path, *, number: int, voters: Sequence[int], advertised: int, replication: int) -> None:
        super().__init__(folder, name=f"kafka-{number}")
        self.number = number
        self._voters = voters
        self._advertised = advertised
        self._replication = replication
        self._internal_port = free_port()

    def _properties(self) -> str:
        voters = ",".join(f"{number}@{HOST}:{port}" for number, port in enumerate(self._voters, 1))
        in_sync = max(1, self._replication - 1)
        controller_port = self._voters[self.number - 1]
        return f"""process.roles=broker,controller
node.id={self.number}
controller.quorum.voters={voters}
controller.quorum.election.timeout.ms=1000
controller.quorum.fetch.timeout.ms=2000
listeners=CLIENT://{HOST}:{self.port},INTERNAL://{HOST}:{self._internal_port},CONTROLLER://{HOST}:{controller_port}
advertised.listeners=CLIENT://{HOST}:{self._advertised},INTERNAL://{HOST}:{self._internal_port}
inter.broker.listener.name=INTERNAL
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,CLIENT:PLAINTEXT,INTERNAL:PLAINTEXT
log.dirs={self.folder / "data"}
auto.create.topics.enable=false
unclean.leader.election.enable=false
broker.session.timeout.ms=2500
broker.heartbeat.interval.ms=400
replica.lag.time.max.ms=4000
replica.fetch.wait.max.ms=200
default.replication.factor={self._replication}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={self._replication}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={self._replication}
transaction.state.log.min.isr={in_sync}
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=2000
log.cleaner.dedupe.buffer.size=4194304
leader.imbalance.check.interval.seconds=10
"""


def cluster(folder: Path, advertised: Sequence[int]) -> list[KafkaNode]:
    """One node per advertised port, not started; the replication factor is their number, up to 3."""
    voters = [free_port() for _ in advertised]
    return [
        KafkaNode(
            folder / f"kafka-{number}",
            number=number,
            voters=voters,
            advertised=port,
            replication=min(3, len(advertised)),
        )
        for number, port in enumerate(advertised, 1)
    ]
