-- One month of one partition for a worker's memory, as hashes: merged or not, the worker merges.
-- kafkaMurmurHash is the function by which Kafka partitions keys; xxh3 and xxHash64 are those of
-- streams/names.py.
SELECT
    xxh3(member_id),
    xxHash64(member_id),
    xxh3(creator_id),
    xxHash64(creator_id),
    reinterpretAsUInt64(reverse(substring(thing_id, 1, 8))),
    reinterpretAsUInt64(reverse(substring(thing_id, 9, 8))),
    version,
    first_position
FROM flattrs
WHERE month = %(month)s AND kafkaMurmurHash(member_id) %% %(partitions)s = %(partition)s
