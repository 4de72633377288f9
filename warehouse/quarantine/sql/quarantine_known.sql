-- Which of a subject's names are known at all, in whatever month: a subset of member, creator and site.
SELECT arrayFilter(kind -> kind != '', [
    if(
        (SELECT count() FROM counts_by_member WHERE member_id = %(member_id)s)
        + (SELECT count() FROM pools WHERE member_id = %(member_id)s)
        + (SELECT count() FROM pledges WHERE member_id = %(member_id)s) > 0, 'member', ''),
    if(
        (SELECT count() FROM creators WHERE creator_id = %(creator_id)s)
        + (SELECT count() FROM counts_by_creator WHERE creator_id = %(creator_id)s)
        + (SELECT count() FROM payouts WHERE creator_id = %(creator_id)s) > 0, 'creator', ''),
    if((SELECT count() FROM (SELECT 1 FROM flattrs WHERE site_id = %(site_id)s LIMIT 1)) > 0, 'site', '')
])
