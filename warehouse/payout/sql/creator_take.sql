-- What a creator would earn if the month ended now: (members, flattrs, micro-units).
-- Each member's share is rounded down, so the sum is less than the close's by under one micro-unit per member.
-- Supporters come from the creator's range of the projection by_creator.
WITH
    supporters AS
    (
        SELECT DISTINCT member_id
        FROM flattrs
        WHERE month = %(month)s AND creator_id = %(creator_id)s
    ),
    ballots AS
    (
        SELECT member_id, toUInt64(sumIf(newest, creator_id = %(creator_id)s)) AS own, toUInt64(sum(newest)) AS total
        FROM
        (
            SELECT member_id, creator_id, toInt64(argMax(flattrs, position)) AS newest
            FROM counts_by_member
            WHERE month = %(month)s AND member_id IN (SELECT member_id FROM supporters)
            GROUP BY member_id, creator_id
            -- quarantine
            UNION ALL
            SELECT member_id, creator_id, -1
            FROM flattrs
            WHERE month = %(month)s AND (member_id, creator_id, thing_id) IN
            (
                SELECT member_id, creator_id, thing_id
                FROM quarantined
                WHERE month = %(month)s AND member_id IN (SELECT member_id FROM supporters)
            )
            GROUP BY month, member_id, creator_id, thing_id
            HAVING bitTest(max(flattrs.version), 19) = 0
            -- end
        )
        GROUP BY member_id
        HAVING own > 0
    ),
    pools AS
    (
        SELECT member_id, sum(pledge) - intDiv(sum(pledge) * %(fee_bps)s, 10000) + sum(carried) AS pool
        FROM
        (
            SELECT member_id, argMax(if(paid, amount_micro, 0), version) AS pledge, toUInt64(0) AS carried
            FROM pledges
            WHERE month = %(month)s
              AND member_id IN (SELECT member_id FROM supporters)
              AND version IN (SELECT version FROM pledge_imports)
            GROUP BY member_id
            UNION ALL
            SELECT member_id, 0, arraySum(lots_micro)
            FROM pools
            WHERE month = %(previous_month)s AND member_id IN (SELECT member_id FROM supporters)
        )
        GROUP BY member_id
    )
SELECT count(), sum(own), sum(intDiv(pool * own, total))
FROM ballots
LEFT JOIN pools ON pools.member_id = ballots.member_id
