-- Pledges that are being collected or were: whose debits have neither failed nor come back.
SELECT DISTINCT month, member_id
FROM debits
WHERE month IN %(months)s AND file_sha256 IN (SELECT sha256 FROM debit_files)
    AND end_to_end_id NOT IN (SELECT end_to_end_id FROM debit_answers WHERE result IN ('failed', 'returned'))
