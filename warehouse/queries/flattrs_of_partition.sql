-- One month of one partition for a worker's memory: rows as they are stored, the worker merges.
-- Each row is packed into 56 bytes, for the driver takes time per value, not per byte: two hashes
-- of the member, two of the creator (those of streams/names.py), the thing, and the version with
-- bit 63 set when a click of this flattr was counted.
-- kafkaMurmurHash is the function by which Kafka partitions keys.
SELECT
    toFixedString(
        concat(
            reinterpretAsFixedString(xxh3(member_id)),
            reinterpretAsFixedString(xxHash64(member_id)),
            reinterpretAsFixedString(xxh3(creator_id)),
            reinterpretAsFixedString(xxHash64(creator_id)),
            thing_id,
            reinterpretAsFixedString(bitOr(version, if(first_position = 18446744073709551615, 0, 9223372036854775808)))
        ),
        56
    )
FROM flattrs
WHERE month = %(month)s AND kafkaMurmurHash(member_id) %% %(partitions)s = %(partition)s
