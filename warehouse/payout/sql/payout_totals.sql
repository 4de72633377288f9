-- The month's totals, each summed from the table that holds it. The fingerprints tie every creator's earnings and
-- flattrs to the lines of the pools: they differ if any line is wrong.
SELECT
    pledges.pledged, pools.pledged, pools.fee, pools.charity, pools.kept,
    pools.carried_in, pools.carried_out, pools.pooled, pools.members, pools.unfunded, pools.flattrs,
    pools.shared, pools.fingerprint,
    payouts.earned, payouts.carried_in, payouts.held_in, payouts.adjusted,
    payouts.paid, payouts.carried_out, payouts.held_out,
    payouts.creators, payouts.paid_creators, payouts.flattrs, payouts.fingerprint
FROM
(
    SELECT sum(amount) AS pledged
    FROM
    (
        SELECT argMax(if(paid, amount_micro, 0), version) AS amount
        FROM pledges
        WHERE month = %(month)s AND version <= %(pledges_version)s AND version IN (SELECT version FROM pledge_imports)
        GROUP BY member_id
    )
) AS pledges,
(
    SELECT
        sum(pledge_micro) AS pledged, sum(fee_micro) AS fee, sum(charity_micro) AS charity, sum(kept_micro) AS kept,
        sum(carried_in_micro) AS carried_in, sum(carried_out_micro) AS carried_out,
        sumIf(pool_micro, rule = 'split') AS pooled,
        count() AS members, countIf(rule = 'unfunded') AS unfunded, sum(flattrs) AS flattrs,
        sum(arraySum(creator_micro)) AS shared,
        sum(arraySum((creator, n, micro) -> xxh3(creator) * (micro + n * 1000003),
            creators, creator_flattrs, creator_micro)) AS fingerprint
    FROM pools_staging WHERE month = %(month)s
) AS pools,
(
    SELECT
        sum(earned_micro) AS earned, sum(carried_in_micro) AS carried_in, sum(held_in_micro) AS held_in,
        sum(adjusted_micro) AS adjusted, sum(paid_micro) AS paid, sum(carried_out_micro) AS carried_out,
        sum(held_out_micro) AS held_out, count() AS creators, countIf(paid_micro > 0) AS paid_creators,
        sum(flattrs) AS flattrs, sum(xxh3(creator_id) * (earned_micro + flattrs * 1000003)) AS fingerprint
    FROM payouts_staging WHERE month = %(month)s
) AS payouts
