from __future__ import annotations

import pytest

from deploy.local import Part
from deploy.topics import TopicError, TopicPlan, create_topics


async def test_missing_topics_are_made_once(broker: Part, topic: str) -> None:
    plans = [TopicPlan(topic, 4), TopicPlan(f"{topic}-rejected", 1)]
    assert await create_topics(broker.address, plans) == [topic, f"{topic}-rejected"]
    assert await create_topics(broker.address, plans) == []


async def test_topic_with_another_number_of_partitions_is_refused(broker: Part, topic: str) -> None:
    await create_topics(broker.address, [TopicPlan(topic, 4)])
    with pytest.raises(TopicError, match="has 4 partitions, 5 were asked for"):
        await create_topics(broker.address, [TopicPlan(topic, 5)])
