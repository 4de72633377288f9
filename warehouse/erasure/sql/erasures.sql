-- Who was erased: keyed hash by which streams know the member (hexadecimal; empty in rows from before there was a
-- key), SHA-256 of the id, pseudonym, first month that bears it.
SELECT if(keyed_hash = toFixedString('', 16), '', hex(keyed_hash)), member_sha256, pseudonym, open_from
FROM erasures
ORDER BY listed_at, erasure
