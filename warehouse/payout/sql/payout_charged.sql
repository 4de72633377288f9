-- What members were charged in closed months, and what they took back of it: by month and member, in micro-units.
SELECT pools.month, pools.member_id, pools.pledge_micro, back.amount_micro
FROM pools
LEFT JOIN
(
    SELECT cites, sum(amount_micro) AS amount_micro
    FROM (SELECT DISTINCT id, cites, amount_micro FROM adjustments WHERE kind = 'chargeback')
    GROUP BY cites
) AS back ON back.cites = concat('pledge ', toString(intDiv(pools.month, 100)), '-', leftPad(toString(pools.month %% 100), 2, '0'), ' ', pools.member_id)
WHERE (pools.month, pools.member_id) IN %(asked)s AND pools.month IN (SELECT month FROM seals)
