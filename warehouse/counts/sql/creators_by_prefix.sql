-- One page of a month's creators whose id begins with some text, by id: (creator_id, flattrs outside quarantine).
-- Ids are visible ASCII, so all that begin so lie between the text and the text with DEL behind it: one range of the key.
SELECT creator_id, sum(newest) AS total
FROM
(
    SELECT creator_id, toInt64(argMax(flattrs, position)) AS newest
    FROM counts_by_creator
    WHERE month = %(month)s AND creator_id >= %(prefix)s AND creator_id < concat(%(prefix)s, '\x7f')
      AND creator_id > %(after_id)s
    GROUP BY creator_id, partition
    -- quarantine
    UNION ALL
    SELECT creator_id, -1
    FROM flattrs
    WHERE month = %(month)s AND (member_id, creator_id, thing_id) IN
    (
        SELECT member_id, creator_id, thing_id
        FROM quarantined
        WHERE month = %(month)s AND creator_id >= %(prefix)s AND creator_id < concat(%(prefix)s, '\x7f')
          AND creator_id > %(after_id)s
    )
    GROUP BY month, member_id, creator_id, thing_id
    HAVING bitTest(max(flattrs.version), 19) = 0
    -- end
)
GROUP BY creator_id
HAVING total > 0
ORDER BY creator_id
LIMIT %(limit)s
