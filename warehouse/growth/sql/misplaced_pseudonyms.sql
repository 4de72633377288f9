-- Erasures whose member and pseudonym would not share a partition among so many, and when the last one leaves the list.
SELECT count(), max(forget_at)
FROM erasures
WHERE same_partition = 0 OR same_partition %% %(partitions)s != 0
