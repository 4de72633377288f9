-- What became of a click: (status, month, position, member_id, thing_id in hex, stands, reason, detail), one row per
-- table that has it, or a few if it was retried or replayed.
-- Bloom filters on click_id narrow the read to one or two granules per table.
WITH UUIDStringToNum(%(click_id)s) AS wanted
SELECT 'counted', month, min(first_position), member_id, lower(hex(thing_id)), bitTest(max(version), 19) = 0, '', ''
FROM flattrs
WHERE month IN %(months)s AND (month, member_id, creator_id, flattrs.thing_id) IN
(
    -- The row with this click id may be one of several that are not merged yet: read the others too.
    SELECT month, member_id, creator_id, thing_id
    FROM flattrs
    WHERE month IN %(months)s AND click_id = wanted
)
GROUP BY month, member_id, creator_id, thing_id
UNION ALL
SELECT DISTINCT 'undo', month, position, member_id, lower(hex(thing_id)), 0, '', ''
FROM undos
WHERE month IN %(months)s AND click_id = wanted
UNION ALL
SELECT DISTINCT 'late', month, position, '', '', 0, '', ''
FROM late
WHERE month IN %(months)s AND click_id = wanted
UNION ALL
SELECT DISTINCT 'duplicate', month, position, member_id, lower(hex(thing_id)), 0, '', ''
FROM duplicates
WHERE month IN %(months)s AND click_id = wanted
UNION ALL
SELECT DISTINCT 'rejected', month, position, '', '', 0, reason, detail
FROM rejected
WHERE month IN %(months)s AND click_id = wanted
