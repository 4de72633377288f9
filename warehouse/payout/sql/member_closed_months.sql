-- The closed months in which a member has a line, newest first, with what became of the pledge: (month, currency,
-- pledged, fee, carried in, pool, charity, kept, carried out, flattrs, shares as (creator, flattrs, micro-units)).
SELECT
    month, currency, pledge_micro, fee_micro, carried_in_micro, pool_micro, charity_micro, kept_micro, carried_out_micro,
    flattrs, arrayZip(creators, creator_flattrs, creator_micro)
FROM pools
WHERE member_id = %(member_id)s AND month IN (SELECT month FROM seals)
ORDER BY month DESC
LIMIT %(limit)s
