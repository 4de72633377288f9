-- The site with the most active flattrs, by member and by creator: (kind, name, site_id, flattrs there, all flattrs).
SELECT kind, name, argMax(site, own), max(own), sum(own) AS of_all
FROM
(
    SELECT tupleElement(pair, 1) AS kind, tupleElement(pair, 2) AS name, site_id AS site, count() AS own
    FROM flattrs FINAL
    ARRAY JOIN [('member', member_id), ('creator', creator_id)] AS pair
    WHERE month = %(month)s AND NOT bitTest(version, 19) AND first_position != 18446744073709551615
    GROUP BY kind, name, site
)
GROUP BY kind, name
HAVING of_all >= %(flattrs_min)s AND argMax(site, own) != ''
ORDER BY kind, name
