-- Members who are in a month's flattrs under an id whose SHA-256 (hexadecimal) is one of these.
SELECT member_id
FROM (SELECT DISTINCT member_id FROM flattrs WHERE month = %(month)s)
WHERE lower(hex(SHA256(member_id))) IN %(digests)s
