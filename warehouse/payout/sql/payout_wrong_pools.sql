-- At most ten members whose pool does not follow from pledge, fee and carry, is not divided to the last micro-unit, or
-- exceeds the bit widths of the split.
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
