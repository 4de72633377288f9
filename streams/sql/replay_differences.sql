-- Flattrs of a month that differ between the replayed log and what was counted, one row each.
-- `until` is each partition's progress when the replay began. Flattrs that changed since then are left out on both
-- sides, as the replay did not read those changes.
WITH
    %(until)s AS until,
    counted AS
    (
        SELECT member_id, creator_id, thing_id, min(first_position) AS first_position, max(position) AS position,
            max(version) AS version, max(click_id) AS click_id, max(clicked_at) AS clicked_at
        FROM flattrs
        WHERE month = %(month)s
        GROUP BY member_id, creator_id, thing_id
        HAVING position <= until[kafkaMurmurHash(member_id) %% length(until) + 1]
    ),
    since AS
    (
        SELECT member_id, creator_id, thing_id
        FROM flattrs
        WHERE month = %(month)s AND position > until[kafkaMurmurHash(member_id) %% length(until) + 1]
    ),
    replayed AS
    (
        SELECT member_id, creator_id, thing_id, min(first_position) AS first_position, max(position) AS position,
            max(version) AS version, max(click_id) AS click_id, max(clicked_at) AS clicked_at
        FROM replayed_flattrs
        WHERE month = %(month)s AND (member_id, creator_id, thing_id) NOT IN (SELECT * FROM since)
        GROUP BY member_id, creator_id, thing_id
    )
SELECT
    if(counted.member_id = '', replayed.member_id, counted.member_id),
    if(counted.member_id = '', replayed.creator_id, counted.creator_id),
    lower(hex(if(counted.member_id = '', replayed.thing_id, counted.thing_id))),
    multiIf(counted.member_id = '', 'in the log, not counted', replayed.member_id = '', 'counted, not in the log', 'differs')
FROM counted
FULL OUTER JOIN replayed USING (member_id, creator_id, thing_id)
WHERE (counted.first_position, counted.position, counted.version, counted.click_id, counted.clicked_at)
    != (replayed.first_position, replayed.position, replayed.version, replayed.click_id, replayed.clicked_at)
ORDER BY ALL
LIMIT 1000
