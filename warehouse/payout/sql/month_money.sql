-- The month's money so far: (members who paid, their pledges, the fee), in micro-units.
SELECT countIf(pledge > 0), sum(pledge), sum(intDiv(pledge * %(fee_bps)s, 10000))
FROM
(
    SELECT argMax(if(paid, amount_micro, 0), version) AS pledge
    FROM pledges
    WHERE month = %(month)s AND version IN (SELECT version FROM pledge_imports)
    GROUP BY member_id
)
