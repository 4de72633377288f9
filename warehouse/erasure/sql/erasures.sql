-- The list of erasures: (keyed hash by which streams know the member, in hexadecimal, empty in rows older than the
-- identity key; SHA-256 of the id; pseudonym; first month under the pseudonym).
SELECT if(keyed_hash = toFixedString('', 16), '', hex(keyed_hash)), member_sha256, pseudonym, open_from
FROM erasures
ORDER BY listed_at, erasure
