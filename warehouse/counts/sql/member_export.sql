-- A member's flattrs of all months in the order of the key, taken-back ones included, after a key: (month, creator_id,
-- thing_id in hex, address, click_id, time of the click in ms, site_id, stands).
WITH page AS
(
    SELECT
        month, creator_id, flattrs.thing_id AS id, max(flattrs.click_id) AS click,
        toUnixTimestamp64Milli(max(flattrs.clicked_at)) AS at_ms, max(flattrs.site_id) AS site,
        bitTest(max(flattrs.version), 19) = 0 AS stands
    FROM flattrs
    WHERE month >= %(after_month)s AND member_id = %(member_id)s
      AND (month, creator_id, flattrs.thing_id) > (%(after_month)s, %(after_creator)s, toFixedString(unhex(%(after_id)s), 16))
    GROUP BY month, member_id, creator_id, thing_id
    ORDER BY month, creator_id, id
    LIMIT %(limit)s
)
SELECT
    page.month, page.creator_id, lower(hex(page.id)), names.address, toString(UUIDNumToString(page.click)), page.at_ms,
    page.site, page.stands
FROM page
LEFT JOIN
(
    SELECT thing_id, min(thing) AS address
    FROM things
    WHERE thing_id IN (SELECT id FROM page)
    GROUP BY thing_id
) AS names ON names.thing_id = page.id
ORDER BY page.month, page.creator_id, page.id
