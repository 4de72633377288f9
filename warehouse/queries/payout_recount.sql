-- The close's count of the month's flattrs, with those in quarantine, beside the stream's own. Sums, and a fingerprint of
-- (member, creator, flattrs) that differs when any line does (but for one chance in 2^64).
SELECT
    pools.counted + held.counted, pools.flattrs + held.flattrs, members.flattrs, creators.flattrs, things.flattrs,
    pools.fingerprint + held.fingerprint = members.fingerprint
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
    SELECT
        count() AS counted,
        countIf(NOT bitTest(version, 19)) AS flattrs,
        sumIf(xxh3(member_id) * xxh3(creator_id), NOT bitTest(version, 19)) AS fingerprint
    FROM flattrs FINAL
    WHERE %(quarantine_version)s != 0 AND month = %(month)s AND first_position != 18446744073709551615
      AND (member_id, creator_id, thing_id) IN (SELECT member_id, creator_id, thing_id
        FROM quarantined_as_of(of_month = %(month)s, until = %(quarantine_version)s))
) AS held,
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
