"""What the broker says of a topic."""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError

from ingest.runtime.kafka_settings import client_security
from streams.errors import StreamStopped
from streams.settings import StreamsSettings


async def partitions_found(settings: StreamsSettings, topic: str) -> int:
    """How many partitions a topic has; 0 if there is none. Raises ``StreamStopped`` if the broker is unreachable."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.broker, **client_security(settings))
    try:
        await admin.start()
        (description,) = await admin.describe_topics([topic])
    except KafkaConnectionError as error:
        raise StreamStopped(f"cannot connect to the broker at {settings.broker}: {error}") from error
    finally:
        await admin.close()
    return 0 if description["error_code"] else len(description["partitions"])
