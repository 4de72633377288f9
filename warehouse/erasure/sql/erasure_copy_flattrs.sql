-- Copy a member's flattrs of the open months to the pseudonym. Rows merge by min and max, so copying a row twice, or
-- merging it before or after, gives the same result.
INSERT INTO flattrs (month, member_id, creator_id, thing_id, first_position, position, version, click_id, site_id, clicked_at)
SELECT month, %(pseudonym)s, creator_id, thing_id, first_position, position, version, click_id, site_id, clicked_at
FROM flattrs
WHERE month >= %(open_from)s AND member_id = %(member)s AND position <= %(reach)s
