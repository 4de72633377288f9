-- A member's flattrs of the open months once more, under the pseudonym. Merging is by min and max, so a row
-- that is copied twice, or merged before or after, states the same.
INSERT INTO flattrs (month, member_id, creator_id, thing_id, first_position, position, version, click_id, site_id, clicked_at)
SELECT month, %(pseudonym)s, creator_id, thing_id, first_position, position, version, click_id, site_id, clicked_at
FROM flattrs
WHERE month >= %(open_from)s AND member_id = %(member)s AND position <= %(reach)s
