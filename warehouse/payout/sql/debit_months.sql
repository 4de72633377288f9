-- The months of the debits with these ids.
SELECT DISTINCT month FROM debits
WHERE end_to_end_id IN %(ids)s AND file_sha256 IN (SELECT sha256 FROM debit_files)
