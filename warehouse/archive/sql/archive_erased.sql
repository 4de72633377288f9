-- Members in the rows that come back who were erased since. The list of erasures forgets its hashes; the proofs stay,
-- and whoever has the id can check them.
SELECT member_id
FROM (SELECT member_id FROM archive_duplicates UNION DISTINCT SELECT member_id FROM archive_undos) AS named
CROSS JOIN (SELECT DISTINCT erasure, proof FROM erasure_log) AS done
WHERE lower(hex(SHA256(concat(toString(erasure), member_id)))) = proof
