-- Flattrs of several creators, each in its own month: (month, creator_id, flattrs) per pair that has any.
SELECT month, creator_id, sum(flattrs)
FROM counts_by_creator FINAL
WHERE month IN %(months)s AND (month, creator_id) IN (SELECT arrayJoin(arrayZip(%(of_months)s, %(ids)s)))
GROUP BY month, creator_id
