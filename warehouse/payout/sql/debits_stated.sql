-- Debits of some months, and what became of each by the set of the bank's answers.
SELECT
    month, member_id, end_to_end_id, amount_micro, currency, mandate_id, sequence, collect_on,
    multiIf(
        has(results, 'returned'), 'returned',
        has(results, 'failed'), 'failed',
        has(results, 'collected'), 'collected',
        'pending') AS state,
    length(results) > 1 AND has(results, 'failed') AS contradictory
FROM
(
    SELECT DISTINCT month, member_id, end_to_end_id, amount_micro, currency, mandate_id, sequence, collect_on
    FROM debits
    WHERE month IN %(months)s AND file_sha256 IN (SELECT sha256 FROM debit_files)
) AS asked
LEFT JOIN
(
    SELECT end_to_end_id, groupUniqArray(result) AS results FROM debit_answers GROUP BY end_to_end_id
) AS answers USING (end_to_end_id)
ORDER BY month, member_id
