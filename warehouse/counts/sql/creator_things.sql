-- One page of a creator's things of a month by flattrs, most first, with addresses.
-- Aggregates the creator's range of the projection by_creator to active flattrs outside quarantine.
WITH page AS
(
    SELECT thing_id, countIf(bitTest(version, 19) = 0) AS total
    FROM
    (
        SELECT thing_id, max(flattrs.version) AS version
        FROM flattrs
        WHERE month = %(month)s AND creator_id = %(creator_id)s
          -- quarantine
          AND (member_id, thing_id) NOT IN
            (SELECT member_id, thing_id FROM quarantined WHERE month = %(month)s AND creator_id = %(creator_id)s)
          -- end
        GROUP BY month, creator_id, thing_id, member_id
    )
    GROUP BY thing_id
    HAVING total > 0
       AND (total < %(after_flattrs)s OR (total = %(after_flattrs)s AND thing_id > unhex(%(after_id)s)))
    ORDER BY total DESC, thing_id
    LIMIT %(limit)s
)
SELECT lower(hex(page.thing_id)), page.total, names.creator, names.address
FROM page
LEFT JOIN
(
    SELECT thing_id, min(creator_id) AS creator, min(thing) AS address
    FROM things
    WHERE thing_id IN (SELECT thing_id FROM page)
    GROUP BY thing_id
) AS names ON names.thing_id = page.thing_id
ORDER BY page.total DESC, page.thing_id
