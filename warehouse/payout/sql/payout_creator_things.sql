-- What a creator earned in a closed month by day and thing, members unnamed: each share is divided evenly among the
-- flattrs it is for, rounded down, and the first of them by thing get what is left, one micro-unit each. So the lines
-- sum to what was earned.
SELECT day, lower(hex(things.thing_id)), any(named.thing), count(), sum(intDiv(share, flattrs) + (nth <= share %% flattrs))
FROM
(
    SELECT
        member_id, thing_id, toDate(clicked_at, 'UTC') AS day,
        row_number() OVER (PARTITION BY member_id ORDER BY thing_id) AS nth
    FROM flattrs FINAL
    WHERE month = %(month)s AND creator_id = %(creator_id)s
      AND NOT bitTest(version, 19) AND first_position != 18446744073709551615
      AND (%(quarantine_version)s = 0 OR (member_id, creator_id, thing_id) NOT IN (SELECT member_id, creator_id, thing_id
        FROM quarantined_as_of(of_month = %(month)s, until = %(quarantine_version)s)))
) AS things
INNER JOIN
(
    SELECT
        member_id, creator_flattrs[indexOf(creators, %(creator_id)s)] AS flattrs,
        creator_micro[indexOf(creators, %(creator_id)s)] AS share
    FROM pools
    WHERE month = %(month)s AND has(creators, %(creator_id)s) AND month IN (SELECT month FROM seals)
) AS shares USING (member_id)
LEFT JOIN
(
    SELECT thing_id, min(thing) AS thing
    FROM things
    WHERE thing_id IN (SELECT thing_id FROM flattrs WHERE month = %(month)s AND creator_id = %(creator_id)s)
    GROUP BY thing_id
) AS named USING (thing_id)
GROUP BY day, things.thing_id
ORDER BY day, things.thing_id
