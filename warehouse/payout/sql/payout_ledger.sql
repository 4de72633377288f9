-- Stage compute, step 3: the ledger. Each row moves amount_micro from its debit account to its credit account.
-- Members share one account, whose lines are the pools; the account `pool` collects what is to be shared and must end
-- at zero.
INSERT INTO ledger_staging
(month, kind, owner, debit_class, debit_owner, credit_class, credit_owner, amount_micro, currency, cites)
SELECT month, entry.1, owner, entry.2, entry.3, entry.4, entry.5, entry.6, currency, cites
FROM
(
    SELECT
        %(month)s AS month, '' AS owner, %(currency)s AS currency, '' AS cites,
        [
            ('charge', 'cash', '', 'members', '', sum(pledge_micro)),
            ('fee', 'members', '', 'fee', '', sum(fee_micro)),
            ('fund', 'members', '', 'pool', '', sumIf(pool_micro, rule = 'split')),
            ('charity', 'members', '', 'charity', '', sum(charity_micro)),
            ('keep', 'members', '', 'kept', '', sum(kept_micro))
        ] AS entries
    FROM pools_staging
    WHERE month = %(month)s
    UNION ALL
    SELECT
        month, creator_id, currency, '',
        [
            ('earn', 'pool', '', 'creator', creator_id, earned_micro),
            ('release', 'held', creator_id, 'creator', creator_id, toUInt64(greatest(held_in_micro - held_out_micro, 0))),
            ('hold', 'creator', creator_id, 'held', creator_id, toUInt64(greatest(held_out_micro - held_in_micro, 0))),
            ('pay', 'creator', creator_id, 'payable', creator_id, paid_micro)
        ]
    FROM payouts_staging
    WHERE month = %(month)s
    UNION ALL
    SELECT
        %(month)s, id, currency, cites,
        [(toString(kind), toString(debit_class), debit_owner, toString(credit_class), credit_owner, amount_micro)]
    FROM adjustments
    WHERE id IN (SELECT id FROM adjustments_taken WHERE month = %(month)s)
)
ARRAY JOIN entries AS entry
WHERE entry.6 > 0
