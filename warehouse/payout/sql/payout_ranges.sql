-- Where to divide a month's members into ranges of about the same size: the first member of each range but the first,
-- from some 10,000 of those with pledges. A bound decides which statement divides a pool, never how.
WITH
    arraySort(groupUniqArray(member_id)) AS members,
    (SELECT greatest(1, intDiv(count(), 10000)) FROM pledges WHERE month = %(month)s) AS one_in
SELECT arrayDistinct(arrayMap(nth -> members[intDiv(length(members) * nth, %(ranges)s) + 1], range(1, %(ranges)s)))
FROM pledges
WHERE month = %(month)s AND modulo(xxh3(member_id), one_in) = 0
