-- One page of a closed month's ledger, by kind and owner, after a cursor.
SELECT toString(kind), owner, debit_class, debit_owner, credit_class, credit_owner, amount_micro, currency, cites
FROM ledger
WHERE month = %(month)s AND month IN (SELECT month FROM seals) AND (toString(kind), owner) > (%(kind)s, %(owner)s)
ORDER BY toString(kind), owner
LIMIT %(limit)s
