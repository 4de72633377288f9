-- One page of a month's things by id, with creator and address: (thing_id in hex, creator_id, address, flattrs outside
-- quarantine). Read in the order of the key, and no further than the page.
WITH page AS
(
    SELECT thing_id, sum(newest) AS total
    FROM
    (
        SELECT thing_id, toInt64(argMax(flattrs, position)) AS newest
        FROM counts_by_thing
        WHERE month = %(month)s AND (%(after_id)s = '' OR thing_id > toFixedString(unhex(%(after_id)s), 16))
        GROUP BY thing_id, partition
        -- quarantine
        UNION ALL
        SELECT thing_id, -1
        FROM flattrs
        WHERE month = %(month)s AND (%(after_id)s = '' OR thing_id > toFixedString(unhex(%(after_id)s), 16))
          AND (member_id, creator_id, thing_id) IN
            (SELECT member_id, creator_id, thing_id FROM quarantined WHERE month = %(month)s)
        GROUP BY month, member_id, creator_id, thing_id
        HAVING bitTest(max(flattrs.version), 19) = 0
        -- end
    )
    GROUP BY thing_id
    HAVING total > 0
    ORDER BY thing_id
    LIMIT %(limit)s
)
SELECT lower(hex(page.thing_id)), names.creator, names.address, page.total
FROM page
LEFT JOIN
(
    SELECT thing_id, min(creator_id) AS creator, min(thing) AS address
    FROM things
    WHERE thing_id IN (SELECT thing_id FROM page)
    GROUP BY thing_id
) AS names ON names.thing_id = page.thing_id
ORDER BY page.thing_id
