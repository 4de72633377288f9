-- The same for the member's flattrs in quarantine: the newest version wins, and two equal rows merge into one.
INSERT INTO quarantine_set (month, creator_id, member_id, thing_id, version, held)
SELECT month, creator_id, %(pseudonym)s, thing_id, version, held
FROM quarantine_set
WHERE month >= %(open_from)s AND member_id = %(member)s
