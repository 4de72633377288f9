-- Rows of open months, and subscriptions, that still have the id of an erased member, by erasure. Compared by SHA-256, because the
-- verifier may not read the identity key. Each id is hashed once per month, and none while nobody was erased.
SELECT erasure, sum(rows)
FROM
(
    SELECT lower(hex(SHA256(member_id))) AS member_sha256, month, rows
    FROM
    (
        SELECT member_id, month, count() AS rows
        FROM
        (
            SELECT member_id, month FROM flattrs WHERE month >= %(since)s
            UNION ALL
            SELECT member_id, month FROM counts_by_member WHERE month >= %(since)s
            UNION ALL
            SELECT member_id, 4294967295 FROM subscription_orders
        )
        WHERE (SELECT count() FROM erasures) > 0
        GROUP BY member_id, month
    )
) AS standing
INNER JOIN erasures USING (member_sha256)
WHERE month >= open_from
    AND erasure IN (SELECT erasure FROM erasure_log GROUP BY erasure HAVING argMax(step, at) = 'done')
GROUP BY erasure
ORDER BY erasure
