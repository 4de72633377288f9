-- Lines of the three count tables that differ from the month's flattrs, with the position for the row that corrects
-- each. `reached` is the position up to which each partition is counted. The gate has passed, so no click of the month
-- stands beyond it: whatever a worker or replay still writes for the month has a smaller position and loses to the
-- corrected row. Should the stream ever count a click under that key at a larger position, that count would win.
-- A row at or past `reached`, which should never exist, is corrected at its position plus one.
WITH
    %(reached)s AS reached,
    truths AS
    (
        SELECT member_id, creator_id, thing_id, toUInt16(kafkaMurmurHash(member_id) %% length(reached)) AS partition
        FROM flattrs FINAL
        WHERE month = %(month)s AND first_position != 18446744073709551615 AND NOT bitTest(version, 19)
    )
SELECT
    toUInt32(%(month)s) AS month, counts, member_id, creator_id, thing_id, partition, stated, flattrs,
    greatest(newest + (newest != 18446744073709551615), reached[home + 1]) AS position
FROM
(
    SELECT
        'by_member' AS counts, member_id, creator_id, toFixedString('', 16) AS thing_id, toUInt16(0) AS partition,
        sum(count) AS stated, sum(truth) AS flattrs, max(at) AS newest,
        toUInt16(kafkaMurmurHash(member_id) %% length(reached)) AS home
    FROM
    (
        SELECT member_id, creator_id, toUInt64(1) AS truth, toUInt64(0) AS count, toUInt64(0) AS at FROM truths
        UNION ALL
        SELECT member_id, creator_id, 0, flattrs, position FROM counts_by_member FINAL WHERE month = %(month)s
    )
    GROUP BY member_id, creator_id
    HAVING stated != flattrs
    UNION ALL
    SELECT
        'by_creator', '', creator_id, toFixedString('', 16), partition,
        sum(count) AS stated, sum(truth) AS flattrs, max(at), partition
    FROM
    (
        SELECT creator_id, partition, toUInt64(1) AS truth, toUInt64(0) AS count, toUInt64(0) AS at FROM truths
        UNION ALL
        SELECT creator_id, partition, 0, flattrs, position FROM counts_by_creator FINAL WHERE month = %(month)s
    )
    GROUP BY creator_id, partition
    HAVING stated != flattrs
    UNION ALL
    SELECT
        'by_thing', '', any(creator_id), thing_id, partition,
        sum(count) AS stated, sum(truth) AS flattrs, max(at), partition
    FROM
    (
        SELECT creator_id, thing_id, partition, toUInt64(1) AS truth, toUInt64(0) AS count, toUInt64(0) AS at FROM truths
        UNION ALL
        SELECT creator_id, thing_id, partition, 0, flattrs, position FROM counts_by_thing FINAL WHERE month = %(month)s
    )
    GROUP BY thing_id, partition
    HAVING stated != flattrs
)
