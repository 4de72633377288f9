-- Counts by creator that differ from a recount of the flattrs: (month, creator, partition, recounted, stated).
-- Keys with rows newer than `positions` are still being written and are left to the next check.
WITH %(positions)s AS positions
SELECT month, creator_id, partition, recounted.flattrs AS flattrs, stated.flattrs AS count
FROM
(
    SELECT month, creator_id, partition, countIf(bitTest(version, 19) = 0) AS flattrs, max(newest) AS newest
    FROM
    (
        SELECT
            month, creator_id, kafkaMurmurHash(member_id) %% length(positions) AS partition,
            max(flattrs.version) AS version, max(flattrs.position) AS newest
        FROM flattrs
        WHERE month >= %(since)s
        GROUP BY month, member_id, creator_id, thing_id
    )
    GROUP BY month, creator_id, partition
) AS recounted
FULL OUTER JOIN
(
    SELECT month, creator_id, toUInt64(partition) AS partition, argMax(flattrs, position) AS flattrs, max(position) AS newest
    FROM counts_by_creator
    WHERE month >= %(since)s
    GROUP BY month, creator_id, partition
) AS stated
USING (month, creator_id, partition)
WHERE recounted.flattrs != stated.flattrs
    AND greatest(recounted.newest, stated.newest) <= positions[partition + 1]
ORDER BY month, creator_id, partition
LIMIT 100
