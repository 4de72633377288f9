-- One month of one partition for a worker's memory: rows as they are stored, the worker merges.
-- Each row is packed into 56 bytes, for the driver takes time per value, not per byte: the
-- hashes of member and creator (those of streams/names.py), the thing, and the version with bit 63
-- set when a click of this flattr was counted.
-- kafkaMurmurHash is the function by which Kafka partitions keys.
SELECT
    toFixedString(
        concat(
            murmurHash3_128(member_id),
            murmurHash3_128(creator_id),
            thing_id,
            reinterpretAsFixedString(bitOr(version, if(first_position = 18446744073709551615, 0, 9223372036854775808)))
        ),
        56
    )
FROM flattrs
WHERE month = %(month)s AND kafkaMurmurHash(member_id) %% %(partitions)s = %(partition)s
