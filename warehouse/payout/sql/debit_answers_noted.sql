-- What the bank answered before about these debits.
SELECT DISTINCT end_to_end_id, result FROM debit_answers WHERE end_to_end_id IN %(ids)s
