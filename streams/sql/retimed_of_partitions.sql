-- Decisions about clicks of one month and some partitions (0080_retimed.sql), as columns of fixed width.
-- materialize(), because ClickHouse sends a column that is nearly all zeros in its sparse format.
SELECT
    click_key,
    reinterpretAsFixedString(materialize(word)),
    reinterpretAsFixedString(materialize(position)),
    reinterpretAsFixedString(materialize(toUInt64(partition)))
FROM retimed
WHERE month = %(month)s AND partition IN %(numbers)s
