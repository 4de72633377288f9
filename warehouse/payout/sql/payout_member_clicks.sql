-- The clicks behind one member's flattrs by time (creator, thing, its id, click id, time), and whether each flattr was in
-- quarantine.
SELECT creator_id, thing, lower(hex(thing_id)), toString(UUIDNumToString(click_id)), toString(clicked_at),
    (creator_id, thing_id) IN (SELECT creator_id, thing_id FROM quarantined WHERE month = %(month)s AND member_id = %(member_id)s)
FROM
(
    SELECT creator_id, thing_id, click_id, clicked_at
    FROM flattrs FINAL
    WHERE month = %(month)s AND member_id = %(member_id)s
      AND NOT bitTest(version, 19) AND first_position != 18446744073709551615
) AS own
LEFT JOIN
(
    SELECT thing_id, min(thing) AS thing
    FROM things
    WHERE thing_id IN (SELECT thing_id FROM flattrs WHERE month = %(month)s AND member_id = %(member_id)s)
    GROUP BY thing_id
) AS named USING (thing_id)
ORDER BY clicked_at, click_id
