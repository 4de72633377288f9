-- The close's count of the month's flattrs, quarantine included, beside the stream's counts: sums, and a fingerprint
-- each of the lines (member, creator, flattrs), (creator, flattrs) and (thing, flattrs).
-- The hashes are unkeyed: a member who constructs colliding names could hide that the counts of those names were
-- swapped. No money depends on counts, `flattr verify` compares them name by name, and a keyed hash takes four times as
-- long.
SELECT
    pools.counted + held.counted,
    pools.flattrs + held.flattrs,
    members.flattrs,
    creators.flattrs,
    things.flattrs,
    pools.by_member + held.by_member,
    pools.by_thing + held.by_thing,
    pools.by_member + held.by_member = members.fingerprint
        AND pools.by_creator + held.by_creator = creators.fingerprint
        AND pools.by_thing + held.by_thing = things.fingerprint
FROM
(
    SELECT
        sum(counted) AS counted,
        sum(flattrs) AS flattrs,
        sum(xxh3(member_id) * arraySum((creator, n) -> xxh3(creator) * n, creators, creator_flattrs)) AS by_member,
        sum(arraySum((creator, n) -> xxh3(creator) * n, creators, creator_flattrs)) AS by_creator,
        sum(things) AS by_thing
    FROM pools_staging
    WHERE month = %(month)s
) AS pools,
(
    SELECT
        count() AS counted,
        countIf(NOT bitTest(version, 19)) AS flattrs,
        sumIf(xxh3(member_id) * xxh3(creator_id), NOT bitTest(version, 19)) AS by_member,
        sumIf(xxh3(creator_id), NOT bitTest(version, 19)) AS by_creator,
        sumIf(reinterpretAsUInt128(thing_id), NOT bitTest(version, 19)) AS by_thing
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
    SELECT sum(flattrs) AS flattrs, sum(xxh3(creator_id) * flattrs) AS fingerprint
    FROM counts_by_creator FINAL
    WHERE month = %(month)s
) AS creators,
(
    SELECT sum(flattrs) AS flattrs, sum(reinterpretAsUInt128(thing_id) * flattrs) AS fingerprint
    FROM counts_by_thing FINAL
    WHERE month = %(month)s
) AS things
