-- A new version of a month's quarantine: the differences between the flattrs covered by the flags in force and those
-- in the newest version. It takes effect with its row in quarantine_versions.
INSERT INTO quarantine_set (month, creator_id, member_id, thing_id, version, held)
WITH
    flags AS
    (
        SELECT kind, member_id, creator_id, thing_id, site_id
        FROM quarantine_log
        WHERE month = %(month)s AND step <= %(step)s
        GROUP BY kind, member_id, creator_id, thing_id, site_id
        HAVING argMax(action, step) = 'flag'
    )
SELECT %(month)s, creator_id, member_id, thing_id, %(version)s, max(wanted)
FROM
(
    SELECT DISTINCT creator_id, member_id, thing_id, 1 AS wanted, 0 AS there
    FROM flattrs
    WHERE month = %(month)s
      AND (member_id IN (SELECT member_id FROM flags WHERE kind = 'member')
        OR (member_id, creator_id) IN (SELECT member_id, creator_id FROM flags WHERE kind = 'member_creator')
        OR (member_id, thing_id) IN (SELECT member_id, toFixedString(unhex(thing_id), 16) FROM flags WHERE kind = 'flattr')
        OR creator_id IN (SELECT creator_id FROM flags WHERE kind = 'creator')
        OR site_id IN (SELECT site_id FROM flags WHERE kind = 'site'))
    UNION ALL
    SELECT creator_id, member_id, thing_id, 0, 1
    FROM quarantined
    WHERE month = %(month)s
)
GROUP BY creator_id, member_id, thing_id
HAVING max(wanted) != max(there)
