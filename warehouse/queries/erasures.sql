-- Who was erased: hash by which streams know the member (hexadecimal), pseudonym, first month that bears it.
SELECT hex(member_hash), pseudonym, open_from
FROM erasures
ORDER BY listed_at, erasure
