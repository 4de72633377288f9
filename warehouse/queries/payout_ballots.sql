-- Stage compute, step 1: the snapshot of the month's flattrs, one row per member.
-- A flattr counts when its last word is not an undo and the log really flattrs it (a row
-- whose first_position is the largest number only moved a version). FINAL merges what was
-- written more than once. The digest is SHA-256 over the member's flattrs, one line
-- `creator <tab> thing` each, sorted.
INSERT INTO ballots_staging (month, member_id, creators, flattrs, digest)
WITH
    arrayMap(f -> f.1, sorted) AS names,
    -- where each creator's run begins in the sorted list
    arrayFilter((i, name, before) -> i = 1 OR name != before,
        arrayEnumerate(names), names, arrayPushFront(arrayPopBack(names), '')) AS begins
SELECT
    %(month)s,
    member_id,
    arrayMap(i -> names[i], begins),
    arrayMap((here, next) -> next - here, begins, arrayPushBack(arrayPopFront(begins), length(names) + 1)),
    SHA256(arrayStringConcat(arrayMap(f -> concat(f.1, '\t', lower(hex(f.2)), '\n'), sorted)))
FROM
(
    SELECT member_id, arraySort(groupArray((creator_id, thing_id))) AS sorted
    FROM flattrs FINAL
    WHERE month = %(month)s AND NOT bitTest(version, 19) AND first_position != 18446744073709551615
    GROUP BY member_id
)
