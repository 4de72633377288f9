-- SHA-256 of the inputs and of the staged tables: of the sorted hashes, in hexadecimal, of all lines (tab-separated
-- fields). Two levels make the result independent of the order in which the server reads; hexadecimal, because a
-- FixedString loses trailing zero bytes. Sorting big-endian numbers gives the order of their hexadecimal; comparing
-- text took a third of this query's time.
WITH arraySort(groupArray(reinterpretAsUInt256(reverse(digest)))) AS numbers
SELECT
    name,
    lower(hex(SHA256(lower(arrayStringConcat(arrayMap(n -> hex(reverse(reinterpretAsFixedString(n))), numbers))))))
FROM
(
    SELECT 'pledges' AS name, SHA256(concat(member_id, '\t', toString(argMax(amount_micro, version)), '\t', toString(argMax(paid, version)), '\n')) AS digest
    FROM pledges
    WHERE month = %(month)s AND version <= %(pledges_version)s AND version IN (SELECT version FROM pledge_imports)
    GROUP BY member_id
    UNION ALL
    SELECT 'adjustments', SHA256(concat(id, '\t', kind, '\t', debit_class, '\t', debit_owner, '\t', credit_class, '\t',
        credit_owner, '\t', toString(amount_micro), '\t', cites, '\n'))
    FROM adjustments
    WHERE id IN (SELECT id FROM adjustments_taken WHERE month = %(month)s)
    UNION ALL
    SELECT 'pools', SHA256(concat(member_id, '\t', toString(pledge_micro), '\t', toString(fee_micro), '\t',
        toString(carried_in_micro), '\t', toString(pool_micro), '\t', toString(counted), '\t', rule, '\t', toString(charity_micro), '\t',
        toString(kept_micro), '\t', toString(carried_out_micro), '\t', toString(lots_month), '\t', toString(lots_micro), '\t',
        toString(things), '\t', arrayStringConcat(creators, '\t'), '\t', toString(creator_flattrs), '\t',
        toString(creator_micro), '\n'))
    FROM pools_staging
    WHERE month = %(month)s
    UNION ALL
    SELECT 'payouts', SHA256(concat(creator_id, '\t', toString(members), '\t', toString(flattrs), '\t', toString(earned_micro), '\t',
        toString(carried_in_micro), '\t', toString(held_in_micro), '\t', toString(adjusted_micro), '\t', toString(paid_micro), '\t',
        toString(carried_out_micro), '\t', toString(held_out_micro), '\t', reason, '\t', payment_id, '\n'))
    FROM payouts_staging
    WHERE month = %(month)s
    UNION ALL
    SELECT 'ledger', SHA256(concat(kind, '\t', owner, '\t', debit_class, '\t', debit_owner, '\t', credit_class, '\t', credit_owner,
        '\t', toString(amount_micro), '\t', cites, '\n'))
    FROM ledger_staging
    WHERE month = %(month)s
    UNION ALL
    SELECT 'quarantined', SHA256(concat(member_id, '\t', creator_id, '\t', hex(thing_id), '\n'))
    FROM quarantined_as_of(of_month = %(month)s, until = %(quarantine_version)s)
    UNION ALL
    SELECT 'quarantine_log', SHA256(concat(toString(step), '\t', action, '\t', kind, '\t', member_id, '\t', creator_id, '\t',
        thing_id, '\t', site_id, '\t', rule, '\t', reason, '\t', evidence, '\t', who, '\t',
        toString(toUnixTimestamp64Milli(at)), '\n'))
    FROM quarantine_log
    WHERE month = %(month)s AND step <= %(quarantine_step)s
)
GROUP BY name
ORDER BY name
