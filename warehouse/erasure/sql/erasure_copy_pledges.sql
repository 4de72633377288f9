-- The same for the member's pledges: the newest version wins, and two equal rows merge into one.
INSERT INTO pledges (month, member_id, version, amount_micro, currency, paid)
SELECT month, %(pseudonym)s, version, amount_micro, currency, paid
FROM pledges
WHERE month >= %(open_from)s AND member_id = %(member)s
