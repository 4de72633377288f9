-- Rows of open months that bear the id of a member whose erasure is done, by erasure.
SELECT erasure, count()
FROM
(
    SELECT murmurHash3_128(member_id) AS member_hash, month FROM flattrs WHERE month >= %(since)s
    UNION ALL
    SELECT murmurHash3_128(member_id), month FROM counts_by_member WHERE month >= %(since)s
) AS standing
INNER JOIN erasures USING (member_hash)
WHERE month >= open_from
    AND erasure IN (SELECT erasure FROM erasure_log GROUP BY erasure HAVING argMax(step, at) = 'done')
GROUP BY erasure
ORDER BY erasure
