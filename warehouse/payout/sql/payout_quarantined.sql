-- How many active flattrs a close leaves out, as of its version of the quarantine.
SELECT countIf(NOT bitTest(version, 19))
FROM flattrs FINAL
WHERE month = %(month)s AND first_position != 18446744073709551615
  AND (member_id, creator_id, thing_id) IN
    (SELECT member_id, creator_id, thing_id FROM quarantined_as_of(of_month = %(month)s, until = %(quarantine_version)s))
