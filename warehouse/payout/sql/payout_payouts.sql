-- Stage compute, step 2: what each creator is due and what happens to it.
-- Opening balances are read from the ledger, not stored a second time. The amount due is held (by a hold, or while
-- unclaimed), or rounded down to the minor unit and paid if it reaches the minimum; the rest is carried.
INSERT INTO payouts_staging
(
    month, creator_id, currency, members, flattrs, earned_micro, carried_in_micro, held_in_micro, adjusted_micro,
    paid_micro, carried_out_micro, held_out_micro, reason, payment_id
)
WITH
    carried_in + held_in + toInt64(earned) + adjusted AS due,
    due - modulo(due, %(minor_micro)s) AS whole,
    multiIf(
        due < 0, 'debt',
        due = 0, 'nothing',
        held, 'held',
        %(claim_required)s AND NOT claimed, 'unclaimed',
        whole < %(minimum_micro)s OR whole = 0, 'below_minimum',
        'paid') AS reason,
    if(reason = 'paid', whole, 0) AS paid,
    if(reason IN ('held', 'unclaimed'), due, 0) AS held_out
SELECT
    %(month)s,
    creator_id,
    %(currency)s,
    members,
    flattrs,
    earned,
    carried_in,
    held_in,
    adjusted,
    paid,
    due - paid - held_out,
    held_out,
    reason,
    if(paid > 0,
        concat('FL-', toString(%(month)s), '-', substring(hex(SHA256(concat(toString(%(month)s), '|', creator_id))), 1, 24)),
        '')
FROM
(
    SELECT
        creator_id,
        sum(members) AS members,
        sum(flattrs) AS flattrs,
        sum(earned) AS earned,
        sum(carried_in) AS carried_in,
        sum(held_in) AS held_in,
        sum(adjusted) AS adjusted
    FROM
    (
        SELECT
            creator AS creator_id, count() AS members, sum(own_flattrs) AS flattrs, sum(own_micro) AS earned,
            toInt64(0) AS carried_in, toInt64(0) AS held_in, toInt64(0) AS adjusted
        FROM pools_staging
        ARRAY JOIN creators AS creator, creator_flattrs AS own_flattrs, creator_micro AS own_micro
        WHERE month = %(month)s
        GROUP BY creator
        UNION ALL
        SELECT credit_owner, 0, 0, 0,
            if(credit_class = 'creator', toInt64(amount_micro), 0), if(credit_class = 'held', toInt64(amount_micro), 0), 0
        FROM ledger WHERE month < %(month)s AND credit_class IN ('creator', 'held')
        UNION ALL
        SELECT debit_owner, 0, 0, 0,
            if(debit_class = 'creator', -toInt64(amount_micro), 0), if(debit_class = 'held', -toInt64(amount_micro), 0), 0
        FROM ledger WHERE month < %(month)s AND debit_class IN ('creator', 'held')
        UNION ALL
        SELECT credit_owner, 0, 0, 0, 0, 0, toInt64(amount_micro)
        FROM adjustments WHERE id IN (SELECT id FROM adjustments_taken WHERE month = %(month)s) AND credit_class = 'creator'
        UNION ALL
        SELECT debit_owner, 0, 0, 0, 0, 0, -toInt64(amount_micro)
        FROM adjustments WHERE id IN (SELECT id FROM adjustments_taken WHERE month = %(month)s) AND debit_class = 'creator'
    )
    GROUP BY creator_id
) AS dues
LEFT JOIN
(
    SELECT creator_id, argMax(claimed, version) AS claimed, argMax(held, version) AS held
    FROM creators
    WHERE version <= %(creators_version)s
    GROUP BY creator_id
) AS registry USING (creator_id)
-- leaves out creators whose balance reached zero in an earlier month
WHERE flattrs > 0 OR carried_in != 0 OR held_in != 0 OR adjusted != 0
