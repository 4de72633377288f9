-- What is stated of a few members in a month: (member_id, creator_id, position, flattrs), as creator_rows.sql.
SELECT member_id, creator_id, position, flattrs
FROM counts_by_member
WHERE month = %(month)s AND member_id IN %(member_ids)s
LIMIT %(limit)s
