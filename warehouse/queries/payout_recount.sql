-- The month's flattrs counted anew, and the sums of the stream's own counts:
-- counted clicks, active flattrs, (member, creator) pairs, and three sums that equal the active.
SELECT counted, active, pairs, by_member, by_creator, by_thing
FROM
(
    SELECT
        countIf(first_position != 18446744073709551615) AS counted,
        countIf(first_position != 18446744073709551615 AND NOT bitTest(version, 19)) AS active
    FROM flattrs FINAL
    WHERE month = %(month)s
) AS recount,
(
    SELECT countIf(flattrs > 0) AS pairs, sum(flattrs) AS by_member FROM counts_by_member FINAL WHERE month = %(month)s
) AS members,
(
    SELECT sum(flattrs) AS by_creator FROM counts_by_creator FINAL WHERE month = %(month)s
) AS creators,
(
    SELECT sum(flattrs) AS by_thing FROM counts_by_thing FINAL WHERE month = %(month)s
) AS things
