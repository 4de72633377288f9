-- A thing's active flattrs outside quarantine, by the hour (ms since 1970) in which they were clicked.
-- The creator is given so that only the thing's own range of the projection by_creator is read.
SELECT toUnixTimestamp(toStartOfHour(at)) * 1000 AS hour_ms, count()
FROM
(
    SELECT max(clicked_at) AS at, max(flattrs.version) AS version
    FROM flattrs
    WHERE month = %(month)s AND creator_id = %(creator_id)s AND thing_id = unhex(%(thing_id)s)
      -- quarantine
      AND (member_id, thing_id) NOT IN
        (SELECT member_id, thing_id FROM quarantined WHERE month = %(month)s AND creator_id = %(creator_id)s)
      -- end
    GROUP BY month, creator_id, thing_id, member_id
    HAVING bitTest(version, 19) = 0
)
GROUP BY hour_ms
ORDER BY hour_ms
