-- A member's rows by table and month, and whether an erasure removes them.
WITH (SELECT max(month) FROM seals) AS closed
SELECT name, month, rows, fate
FROM
(
    SELECT name, month, rows, if(name IN ('replayed_flattrs', 'staging') OR month > closed, 'goes', 'stays: closed') AS fate
    FROM
    (
        SELECT 'flattrs' AS name, month, count() AS rows FROM flattrs WHERE member_id = %(member)s GROUP BY month
        UNION ALL
        SELECT 'counts_by_member', month, count() FROM counts_by_member WHERE member_id = %(member)s GROUP BY month
        UNION ALL
        SELECT 'pledges', month, count() FROM pledges WHERE member_id = %(member)s GROUP BY month
        UNION ALL
        SELECT 'debits', month, count() FROM debits WHERE member_id = %(member)s GROUP BY month
        UNION ALL
        SELECT 'pools', month, count() FROM pools WHERE member_id = %(member)s GROUP BY month
        UNION ALL
        SELECT 'quarantine_set', month, count() FROM quarantine_set WHERE member_id = %(member)s GROUP BY month
        UNION ALL
        SELECT 'quarantine_log', month, count()
        FROM quarantine_log
        WHERE member_id = %(member)s OR match(evidence, %(mention)s) OR match(reason, %(mention)s)
        GROUP BY month
        UNION ALL
        SELECT 'staging', month, count() FROM pools_staging WHERE member_id = %(member)s GROUP BY month
        UNION ALL
        SELECT 'restated_counts', month, count() FROM restated_counts WHERE member_id = %(member)s GROUP BY month
        UNION ALL
        SELECT 'replayed_flattrs', month, count() FROM replayed_flattrs WHERE member_id = %(member)s GROUP BY month
    )
    UNION ALL
    SELECT name, month, rows, 'goes'
    FROM
    (
        SELECT 'mandates' AS name, toUInt32(0) AS month, count() AS rows FROM mandates WHERE member_id = %(member)s HAVING rows > 0
        UNION ALL
        SELECT 'subscription_orders', toUInt32(0), count() AS rows FROM subscription_orders WHERE member_id = %(member)s HAVING rows > 0
        UNION ALL
        SELECT 'duplicates' AS name, month, count() AS rows FROM duplicates WHERE member_id = %(member)s GROUP BY month
        UNION ALL
        SELECT 'undos', month, count() FROM undos WHERE member_id = %(member)s GROUP BY month
        UNION ALL
        SELECT 'late', month, count() FROM late WHERE JSONExtractString(click, 'member_id') = %(member)s GROUP BY month
        UNION ALL
        SELECT 'rejected', month, count()
        FROM rejected
        WHERE member_id = %(member)s OR match(raw, %(mention)s) OR match(detail, %(mention)s)
        GROUP BY month
    )
)
ORDER BY name, month
