-- Stage compute, step 2: every member's pool and the rule that decides on it.
-- pool = paid pledge - fee + what is carried from months without flattrs. Carried lots keep
-- their month of origin; the oldest fall to the charity when they expire.
INSERT INTO pools_staging
(
    month, member_id, currency, pledge_micro, fee_micro, carried_in_micro, pool_micro, flattrs, rule,
    charity_micro, kept_micro, carried_out_micro, lots_month, lots_micro, flattrs_digest
)
WITH
    intDiv(pledge * %(fee_bps)s, 10000) AS fee,
    arraySum(micros) AS carried_in,
    pledge - fee + carried_in AS pool,
    multiIf(pool = 0, 'unfunded', flattrs > 0, 'split', %(noclick)s) AS rule,
    -- the lots that this month's carry would leave: the earlier ones and this month's own
    arrayFilter(l -> l.2 > 0, arrayPushBack(arrayZip(origins, micros), (toUInt32(%(month)s), toUInt64(pledge - fee)))) AS lots,
    arrayFilter(
        l -> intDiv(%(month)s, 100) * 12 + modulo(%(month)s, 100) - intDiv(l.1, 100) * 12 - modulo(l.1, 100)
             < %(noclick_expiry_months)s, lots) AS fresh,
    if(rule = 'carry', fresh, []) AS kept_lots,
    arraySum(l -> l.2, kept_lots) AS carried_out
SELECT
    %(month)s,
    member_id,
    %(currency)s,
    pledge,
    fee,
    carried_in,
    pool,
    flattrs,
    rule,
    multiIf(rule = 'charity', pool, rule = 'carry', pool - carried_out, 0),
    if(rule = 'keep', pool, 0),
    carried_out,
    arrayMap(l -> l.1, kept_lots),
    arrayMap(l -> l.2, kept_lots),
    digest
FROM
(
    SELECT
        member_id,
        sum(amount) AS pledge,
        sum(ballot) AS flattrs,
        groupArrayArray(lot_origins) AS origins,
        groupArrayArray(lot_micros) AS micros,
        max(ballot_digest) AS digest
    FROM
    (
        SELECT
            member_id,
            argMax(if(paid, amount_micro, 0), version) AS amount,
            toUInt64(0) AS ballot,
            CAST([], 'Array(UInt32)') AS lot_origins,
            CAST([], 'Array(UInt64)') AS lot_micros,
            toFixedString('', 32) AS ballot_digest
        FROM pledges
        WHERE month = %(month)s AND version IN (SELECT version FROM pledge_imports)
        GROUP BY member_id
        UNION ALL
        SELECT member_id, 0, arraySum(flattrs), [], [], digest FROM ballots_staging WHERE month = %(month)s
        UNION ALL
        SELECT member_id, 0, 0, lots_month, lots_micro, toFixedString('', 32)
        FROM pools
        WHERE month = %(previous_month)s AND notEmpty(lots_month)
    )
    GROUP BY member_id
)
