-- The mandates by which anything was ever collected: the last day, and how many debits have not failed.
SELECT
    mandate_id, max(collect_on), countIf(end_to_end_id NOT IN
    (
        SELECT end_to_end_id FROM debit_answers
        GROUP BY end_to_end_id
        HAVING has(groupUniqArray(result), 'failed') AND NOT has(groupUniqArray(result), 'returned')
    ))
FROM debits
WHERE file_sha256 IN (SELECT sha256 FROM debit_files)
GROUP BY mandate_id
