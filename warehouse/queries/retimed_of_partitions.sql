-- What was decided of clicks of one month and some partitions (0080_retimed.sql), as columns of fixed width.
SELECT
    click_key,
    reinterpretAsFixedString(word),
    reinterpretAsFixedString(position),
    reinterpretAsFixedString(toUInt64(partition))
FROM retimed
WHERE month = %(month)s AND partition IN %(numbers)s
