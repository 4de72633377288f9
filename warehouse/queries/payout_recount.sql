-- The close's count of the month's flattrs beside the stream's own. Sums, and a fingerprint of
-- (member, creator, flattrs) that differs when any line does (but for one chance in 2^64).
SELECT
    pools.counted, pools.flattrs, members.flattrs, creators.flattrs, things.flattrs,
    pools.fingerprint = members.fingerprint
FROM
(
    SELECT
        sum(counted) AS counted,
        sum(flattrs) AS flattrs,
        sum(xxh3(member_id) * arraySum((creator, n) -> xxh3(creator) * n, creators, creator_flattrs)) AS fingerprint
    FROM pools_staging
    WHERE month = %(month)s
) AS pools,
(
    SELECT sum(flattrs) AS flattrs, sum(xxh3(member_id) * xxh3(creator_id) * flattrs) AS fingerprint
    FROM counts_by_member FINAL
    WHERE month = %(month)s
) AS members,
(
    SELECT sum(flattrs) AS flattrs FROM counts_by_creator FINAL WHERE month = %(month)s
) AS creators,
(
    SELECT sum(flattrs) AS flattrs FROM counts_by_thing FINAL WHERE month = %(month)s
) AS things
