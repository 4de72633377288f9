-- One month of some partitions for a worker's memory: rows as they are stored, the worker merges.
-- Every column is of fixed width, so that the worker takes each block's from the wire in one piece:
-- the hashes of member and creator (those of streams/clicks/string_columns.py), the thing, the version with bit 63
-- set when a click of this flattr was counted, and the partition. The key is read inside, so no text of it is kept.
-- All partitions in one query: each would read and hash the whole month for itself.
-- kafkaMurmurHash is the function by which Kafka partitions keys.
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
