-- The erasure of this member, if there is one: id, pseudonym, first month that bears it.
SELECT erasure, pseudonym, open_from
FROM erasures
WHERE member_sha256 = %(sha256)s
ORDER BY listed_at
LIMIT 1
