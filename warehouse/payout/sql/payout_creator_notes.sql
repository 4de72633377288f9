-- Why a creator got what they got in a closed month: the corrections, returns and charge-backs among its entries, as
-- (kind, amount to the creator in micro-units, what it cites, reason).
SELECT DISTINCT kind, if(credit_class = 'creator', toInt64(amount_micro), -toInt64(amount_micro)), cites, reason
FROM adjustments
WHERE id IN
(
    SELECT owner FROM ledger
    WHERE month = %(month)s AND cites != '' AND month IN (SELECT month FROM seals)
        AND ((debit_class = 'creator' AND debit_owner = %(creator_id)s) OR (credit_class = 'creator' AND credit_owner = %(creator_id)s))
)
ORDER BY cites, kind
