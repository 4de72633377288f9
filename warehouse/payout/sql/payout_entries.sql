-- The ledger entries of a closed month, in the order of the books.
SELECT month, kind, owner, debit_class, debit_owner, credit_class, credit_owner, amount_micro, currency, cites
FROM ledger
WHERE month = %(month)s AND month IN (SELECT month FROM seals)
ORDER BY kind, owner, debit_class, credit_class
