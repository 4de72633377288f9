-- One month of some partitions for a worker's memory: rows as they are stored, the worker merges.
-- Every column is of fixed width, so that the worker takes each block's from the wire in one piece:
-- the hashes of member and creator (those of streams/names.py), the thing, the version with bit 63
-- set when a click of this flattr was counted, and the partition.
-- All partitions in one query: each would read and hash the whole month for itself.
-- kafkaMurmurHash is the function by which Kafka partitions keys.
WITH toUInt64(kafkaMurmurHash(member_id) %% %(partitions)s) AS partition
SELECT
    murmurHash3_128(member_id),
    murmurHash3_128(creator_id),
    thing_id,
    reinterpretAsFixedString(bitOr(version, if(first_position = 18446744073709551615, 0, 9223372036854775808))),
    reinterpretAsFixedString(partition)
FROM flattrs
WHERE month = %(month)s AND partition IN %(numbers)s
