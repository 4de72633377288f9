-- What the pools and the quarantine together have to hold: the flattrs of the month, and the fingerprints of
-- payout_recount.sql over them.
SELECT
    count(),
    sum(xxh3(member_id) * xxh3(creator_id)),
    sum(reinterpretAsUInt128(thing_id))
FROM flattrs FINAL
WHERE month = %(month)s AND first_position != 18446744073709551615 AND NOT bitTest(version, 19)
