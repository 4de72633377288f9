-- Members whose pool is not what their pledge, fee and carry make it, or not divided to the
-- last micro-unit, or too wide for the split's numbers. Ten at most.
SELECT
    member_id,
    pool_micro,
    arraySum(creator_micro) + charity_micro + kept_micro + carried_out_micro AS given
FROM pools_staging
WHERE month = %(month)s
  AND (given != pool_micro
    OR pledge_micro + carried_in_micro != pool_micro + fee_micro
    OR arraySum(creator_flattrs) != flattrs
    OR arraySum(lots_micro) != carried_out_micro
    OR flattrs >= 16777216 OR length(creators) >= 1048576
    OR toUInt128(pool_micro) * flattrs >= 9223372036854775808)
ORDER BY member_id
LIMIT 10
