-- One page of a member's flattrs that stand, newest first: (month, thing_id in hex, creator_id, address, time of the
-- click in ms, site_id). Reads the member's own range of each month.
WITH page AS
(
    SELECT
        month, creator_id, flattrs.thing_id AS id, toUnixTimestamp64Milli(max(flattrs.clicked_at)) AS at_ms,
        max(flattrs.site_id) AS site
    FROM flattrs
    WHERE month BETWEEN %(since)s AND %(until)s AND member_id = %(member_id)s
    GROUP BY month, member_id, creator_id, thing_id
    HAVING bitTest(max(flattrs.version), 19) = 0
       AND (month, at_ms, lower(hex(id))) < (%(after_month)s, %(after_ms)s, %(after_id)s)
    ORDER BY month DESC, at_ms DESC, id DESC
    LIMIT %(limit)s
)
SELECT page.month, lower(hex(page.id)), page.creator_id, names.address, page.at_ms, page.site
FROM page
LEFT JOIN
(
    SELECT thing_id, min(thing) AS address
    FROM things
    WHERE thing_id IN (SELECT id FROM page)
    GROUP BY thing_id
) AS names ON names.thing_id = page.id
ORDER BY page.month DESC, page.at_ms DESC, page.id DESC
