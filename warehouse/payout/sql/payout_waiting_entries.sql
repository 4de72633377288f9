-- Adjustments that the next close will take, newest first: those no closed month has taken.
SELECT DISTINCT kind, if(kind = 'correct' OR kind = 'return', if(credit_owner != '', credit_owner, debit_owner), ''),
    amount_micro, currency, cites, reason
FROM adjustments
WHERE id NOT IN (SELECT owner FROM ledger WHERE month IN (SELECT month FROM seals) AND cites != '')
ORDER BY version DESC, id
LIMIT %(limit)s
