-- Flattrs of several members in a month and the number of creators they go to:
-- (member_id, flattrs, creators) per member that has any.
SELECT member_id, sum(flattrs), countIf(flattrs > 0)
FROM counts_by_member FINAL
WHERE month = %(month)s AND member_id IN %(member_ids)s
GROUP BY member_id
