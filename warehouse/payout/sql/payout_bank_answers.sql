-- What banks have said about payments of these months, in the order of warehouse.payout.books.returns.Answer.
SELECT
    month, payment_id, kind, amount_micro, currency, code, note, is_whole_file = 1, account_reference, transaction_id,
    wording, said_on
FROM bank_answers
WHERE month IN %(months)s
ORDER BY month, payment_id, said_on, read_at, code
