-- A month's counts by creator and new partition, from the flattrs; 0 where there was a count and is none now.
INSERT INTO counts_by_creator_moving (month, creator_id, partition, flattrs, position)
SELECT toUInt32(%(month)s), creator_id, part, sum(active), toUInt64(%(boundary)s)
FROM
(
    SELECT creator_id, toUInt16(kafkaMurmurHash(member_id) %% %(partitions)s) AS part, toUInt64(1) AS active
    FROM flattrs
    WHERE month = %(month)s
    GROUP BY member_id, creator_id, thing_id
    HAVING min(first_position) != 18446744073709551615 AND NOT bitTest(max(flattrs.version), 19)
    UNION ALL
    SELECT creator_id, partition, toUInt64(0) FROM counts_by_creator WHERE month = %(month)s
)
GROUP BY creator_id, part
