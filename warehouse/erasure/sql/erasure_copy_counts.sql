-- The same for the member's counts, which are absolute: the newest position wins.
INSERT INTO counts_by_member (month, member_id, creator_id, flattrs, position)
SELECT month, %(pseudonym)s, creator_id, flattrs, position
FROM counts_by_member
WHERE month >= %(open_from)s AND member_id = %(member)s AND position <= %(reach)s
