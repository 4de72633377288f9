-- One month of some partitions for a worker's memory: rows as stored, since the worker merges them.
-- Columns have a fixed width, so that the worker reads each block's column in one piece: the hashes of member and
-- creator (as in streams/clicks/string_columns.py), the thing, the version with bit 63 set if a click of this flattr
-- was counted, and the partition. The key is read by a subquery, so that it never appears in a query's text.
-- All partitions in one query, as each query has to read and hash the whole month.
-- kafkaMurmurHash is MurmurHash2 as in Kafka's default partitioner.
WITH
    (SELECT groupArray((k0, k1)) FROM identity_key) AS keys,
    keys[1 + throwIf(length(keys) != 1, 'the table identity_key has not one row')] AS identity,
    toUInt64(kafkaMurmurHash(member_id) %% %(partitions)s) AS partition
SELECT
    sipHash128ReferenceKeyed(identity, member_id),
    sipHash128ReferenceKeyed(identity, creator_id),
    thing_id,
    reinterpretAsFixedString(bitOr(version, if(first_position = 18446744073709551615, 0, 9223372036854775808))),
    reinterpretAsFixedString(partition)
FROM flattrs
WHERE month = %(month)s AND partition IN %(numbers)s
