-- Flattrs of several creators in a month: (creator_id, flattrs), those without any left out.
-- FINAL over the few rows that the key leaves is half the server's time of an argMax of its own.
SELECT creator_id, sum(flattrs)
FROM counts_by_creator FINAL
WHERE month = %(month)s AND creator_id IN %(creator_ids)s
GROUP BY creator_id
