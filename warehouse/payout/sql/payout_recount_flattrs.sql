-- What pools and quarantine must contain together: the month's flattrs, and payout_recount.sql's fingerprints of them.
SELECT
    count(),
    sum(xxh3(member_id) * xxh3(creator_id)),
    sum(reinterpretAsUInt128(thing_id))
FROM flattrs FINAL
WHERE month = %(month)s AND first_position != 18446744073709551615 AND NOT bitTest(version, 19)
