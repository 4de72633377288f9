-- Every member's share for one creator in a closed month: (member, flattrs for the creator, all the member's flattrs,
-- the pool, the share).
SELECT
    member_id,
    creator_flattrs[indexOf(creators, %(creator_id)s)],
    flattrs,
    if(rule = 'split', pool_micro, 0),
    creator_micro[indexOf(creators, %(creator_id)s)]
FROM pools
WHERE month = %(month)s AND has(creators, %(creator_id)s) AND month IN (SELECT month FROM seals)
ORDER BY member_id
