-- The counted click of a member and thing, as a UUID.
SELECT UUIDNumToString(max(click_id))
FROM flattrs
WHERE month = %(month)s AND member_id = %(member_id)s AND thing_id = unhex(%(thing_id)s)
GROUP BY month, member_id, creator_id, thing_id
