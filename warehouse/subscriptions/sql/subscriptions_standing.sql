-- Subscriptions that stand at a time (in ms) and reach a month, in the order of their key, after a key: (member,
-- creator, thing id in hex, address, site, last month or 0, begun at in ms, whether the month has the flattr already).
-- The newest click before that time says whether one stands. Nobody subscribes under a pseudonym: those members are erased.
WITH
    orders AS
    (
        SELECT member_id, creator_id, thing_id, click_id, ends, min(version) AS said, max(until) AS last_month, max(site_id) AS site
        FROM subscription_orders
        WHERE (%(member)s = '' OR member_id = %(member)s) AND (member_id, creator_id, hex(thing_id)) > %(after)s
        GROUP BY member_id, creator_id, thing_id, click_id, ends
        HAVING bitShiftRight(said, 20) < %(at_ms)s
    ),
    standing AS
    (
        SELECT member_id, creator_id, thing_id, argMax((ends, last_month, site), said) AS newest,
            bitShiftRight(max(said), 20) AS begun_ms
        FROM orders
        GROUP BY member_id, creator_id, thing_id
        HAVING newest.1 = 0 AND (newest.2 = 0 OR newest.2 >= %(month)s) AND member_id NOT IN (SELECT pseudonym FROM erasures)
        ORDER BY member_id, creator_id, hex(thing_id)
        LIMIT %(limit)s
    )
SELECT member_id, creator_id, lower(hex(thing_id)), named.thing, newest.3, newest.2, begun_ms,
    (member_id, creator_id, thing_id) IN
    (
        SELECT member_id, creator_id, thing_id
        FROM flattrs
        WHERE month = %(month)s AND member_id IN (SELECT member_id FROM standing)
    ) AS flattred
FROM standing
LEFT JOIN
(
    SELECT thing_id, min(thing) AS thing
    FROM things
    WHERE thing_id IN (SELECT thing_id FROM standing)
    GROUP BY thing_id
) AS named USING (thing_id)
ORDER BY member_id, creator_id, hex(thing_id)
