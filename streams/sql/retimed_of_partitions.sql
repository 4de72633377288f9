-- What was decided of clicks of one month and some partitions (0080_retimed.sql), as columns of fixed width.
-- Materialized: a part whose rows are nearly all of partition 0 keeps and sends that column sparsely, without the zeros.
SELECT
    click_key,
    reinterpretAsFixedString(materialize(word)),
    reinterpretAsFixedString(materialize(position)),
    reinterpretAsFixedString(materialize(toUInt64(partition)))
FROM retimed
WHERE month = %(month)s AND partition IN %(numbers)s
