-- A month's flattrs that stand, and how many of them are in quarantine: (flattrs, quarantined), one row.
-- Reads the whole month, one row per creator and partition; the API caches the answer.
SELECT
    (
        SELECT sum(newest)
        FROM
        (
            SELECT argMax(flattrs, position) AS newest
            FROM counts_by_creator
            WHERE month = %(month)s
            GROUP BY creator_id, partition
        )
    ),
    -- quarantine
    (
        SELECT count()
        FROM
        (
            SELECT month
            FROM flattrs
            WHERE month = %(month)s AND (member_id, creator_id, thing_id) IN
                (SELECT member_id, creator_id, thing_id FROM quarantined WHERE month = %(month)s)
            GROUP BY month, member_id, creator_id, thing_id
            HAVING bitTest(max(flattrs.version), 19) = 0
        )
    ) +
    -- end
    0
