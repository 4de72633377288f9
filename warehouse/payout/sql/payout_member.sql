-- One member's pool line of a closed month.
SELECT
    currency, pledge_micro, fee_micro, carried_in_micro, pool_micro, rule, charity_micro, kept_micro, carried_out_micro,
    counted, flattrs, creators, creator_flattrs, creator_micro
FROM pools
WHERE month = %(month)s AND member_id = %(member_id)s AND month IN (SELECT month FROM seals)
