-- The creators that a member's flattrs of a month go to, most first, then by name: one page.
SELECT creator_id, argMax(flattrs, position) AS newest
FROM counts_by_member
WHERE month = %(month)s AND member_id = %(member_id)s
GROUP BY creator_id
HAVING newest > 0 AND (newest < %(after_flattrs)s OR (newest = %(after_flattrs)s AND creator_id > %(after_id)s))
ORDER BY newest DESC, creator_id
LIMIT %(limit)s
