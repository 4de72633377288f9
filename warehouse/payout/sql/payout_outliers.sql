-- Creators, members and sites that have many flattrs this month, and many times last month's; and creators who earn
-- much, and many times last month's. Flattrs in quarantine earn nothing and are left out. What a creator earns is known
-- once a close has computed it.
SELECT kind, name, measure, now_value, before_value
FROM
(
    SELECT
        tupleElement(pair, 1) AS kind,
        tupleElement(pair, 2) AS name,
        'flattrs' AS measure,
        countIf(month = %(month)s) AS now_value,
        countIf(month = %(previous_month)s) AS before_value,
        %(flattrs_min)s AS least
    FROM flattrs FINAL
    ARRAY JOIN [('creator', creator_id), ('member', member_id), ('site', site_id)] AS pair
    WHERE month IN (%(month)s, %(previous_month)s)
      AND NOT bitTest(version, 19) AND first_position != 18446744073709551615
      AND (%(quarantine_version)s = 0 OR (month, member_id, creator_id, thing_id) NOT IN
      (
        SELECT toUInt32(%(month)s), member_id, creator_id, thing_id
        FROM quarantined_as_of(of_month = %(month)s, until = %(quarantine_version)s)
        UNION ALL
        SELECT toUInt32(%(previous_month)s), member_id, creator_id, thing_id
        FROM quarantined_as_of(of_month = %(previous_month)s, until = %(quarantine_version)s)
      ))
    GROUP BY kind, name
    UNION ALL
    SELECT
        'creator', creator_id, 'earned',
        sumIf(earned_micro, month = %(month)s), sumIf(earned_micro, month = %(previous_month)s), %(earned_min_micro)s
    FROM
    (
        SELECT month, creator_id, earned_micro FROM payouts_staging WHERE month = %(month)s
        UNION ALL
        SELECT month, creator_id, earned_micro FROM payouts
        WHERE month = %(previous_month)s OR (month = %(month)s AND month IN (SELECT month FROM seals)
            AND month NOT IN (SELECT month FROM payouts_staging))
    )
    GROUP BY creator_id
)
WHERE now_value >= least AND now_value >= before_value * %(factor)s AND name != ''
ORDER BY kind, measure, now_value / (before_value + 1) DESC, name
LIMIT 100 BY kind, measure
