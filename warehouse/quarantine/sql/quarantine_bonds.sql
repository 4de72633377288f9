-- Members with many flattrs for one creator: (member_id, creator_id, flattrs, all of the member's, all of the
-- creator's).
WITH pairs AS
(
    SELECT member_id, creator_id, count() AS own
    FROM flattrs FINAL
    WHERE month = %(month)s AND NOT bitTest(version, 19) AND first_position != 18446744073709551615
    GROUP BY member_id, creator_id
)
SELECT pairs.member_id, pairs.creator_id, own, of_member, of_creator
FROM pairs
LEFT JOIN (SELECT member_id, sum(own) AS of_member FROM pairs GROUP BY member_id) AS members ON members.member_id = pairs.member_id
LEFT JOIN (SELECT creator_id, sum(own) AS of_creator FROM pairs GROUP BY creator_id) AS creators ON creators.creator_id = pairs.creator_id
WHERE own >= %(flattrs_min)s AND own * 100 >= of_member * %(share_percent)s
ORDER BY pairs.member_id, pairs.creator_id
