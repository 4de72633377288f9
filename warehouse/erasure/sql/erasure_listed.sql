-- This member's erasure, if any: (id, pseudonym, first month under the pseudonym).
SELECT erasure, pseudonym, open_from
FROM erasures
WHERE member_sha256 = %(sha256)s
ORDER BY listed_at
LIMIT 1
