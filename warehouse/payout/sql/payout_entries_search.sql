-- Ledger entries of a closed month that name a text: an owner, what they cite, or their kind.
SELECT kind, debit_class, debit_owner, credit_class, credit_owner, amount_micro, currency, cites
FROM ledger
WHERE month = %(month)s AND month IN (SELECT month FROM seals)
    AND (positionCaseInsensitive(debit_owner, %(text)s) > 0 OR positionCaseInsensitive(credit_owner, %(text)s) > 0
        OR positionCaseInsensitive(cites, %(text)s) > 0 OR kind = %(text)s)
ORDER BY kind, owner, debit_class, credit_class
LIMIT %(limit)s
