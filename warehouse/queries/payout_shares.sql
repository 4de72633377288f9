-- Stage compute, step 3: the split. Largest remainder per member, ties by
-- xxh3('month|member|creator'), smallest first. warehouse/payout/split.py is its reference.
INSERT INTO shares_staging (month, member_id, creator_id, flattrs, share_micro)
WITH
    arraySum(flattrs) AS total,
    -- (largest remainder first, hash, creator, flattrs, share rounded down), in order of claim
    arraySort(arrayMap(
        (creator, n) -> (
            -toInt64(modulo(pool_micro * n, total)),
            xxh3(concat(toString(%(month)s), '|', member_id, '|', creator)),
            creator,
            n,
            intDiv(pool_micro * n, total)),
        creators, flattrs)) AS claims,
    pool_micro - arraySum(claim -> claim.5, claims) AS left,
    arrayMap((claim, rank) -> (claim.3, claim.4, claim.5 + (rank <= left)), claims, arrayEnumerate(claims)) AS lines
SELECT %(month)s, member_id, line.1, line.2, line.3
FROM ballots_staging AS ballots
INNER JOIN
(
    SELECT member_id, if(rule = 'split', pool_micro, 0) AS pool_micro
    FROM pools_staging
    WHERE month = %(month)s
) AS pools USING (member_id)
ARRAY JOIN lines AS line
WHERE ballots.month = %(month)s
