-- A month's active flattrs that some subject in its quarantine log covers or once covered.
WITH subjects AS (SELECT DISTINCT kind, member_id, creator_id, thing_id, site_id FROM quarantine_log WHERE month = %(month)s)
SELECT member_id, creator_id, lower(hex(thing_id)), site_id
FROM flattrs FINAL
WHERE month = %(month)s AND NOT bitTest(version, 19) AND first_position != 18446744073709551615
  AND (member_id IN (SELECT member_id FROM subjects WHERE kind = 'member')
    OR (member_id, creator_id) IN (SELECT member_id, creator_id FROM subjects WHERE kind = 'member_creator')
    OR (member_id, thing_id) IN (SELECT member_id, toFixedString(unhex(thing_id), 16) FROM subjects WHERE kind = 'flattr')
    OR creator_id IN (SELECT creator_id FROM subjects WHERE kind = 'creator')
    OR site_id IN (SELECT site_id FROM subjects WHERE kind = 'site'))
ORDER BY member_id, creator_id, thing_id
