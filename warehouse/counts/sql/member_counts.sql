-- Flattrs of several members in a month and the number of creators they go to:
-- (member_id, flattrs, creators) per member that has any. Read as creator_counts.sql.
SELECT member_id, sum(newest), countIf(newest > 0)
FROM
(
    SELECT member_id, argMax(flattrs, position) AS newest
    FROM counts_by_member
    WHERE month = %(month)s AND member_id IN %(member_ids)s
    GROUP BY member_id, creator_id
)
GROUP BY member_id
