-- A member's flattrs of a month and the number of creators that they go to.
-- All rows of a member come from one partition; the newest position of each creator wins.
SELECT sum(newest), countIf(newest > 0)
FROM
(
    SELECT argMax(flattrs, position) AS newest
    FROM counts_by_member
    WHERE month = %(month)s AND member_id = %(member_id)s
    GROUP BY creator_id
)
