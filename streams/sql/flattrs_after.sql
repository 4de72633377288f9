-- Flattrs of one month and some partitions that changed at or after a position given for each, with names.
WITH toUInt16(kafkaMurmurHash(member_id) %% %(partitions)s) AS partition
SELECT partition, member_id, creator_id, thing_id, version, first_position, position
FROM flattrs
WHERE month = %(month)s
    AND partition IN %(numbers)s
    AND position >= transform(partition, %(numbers)s, %(positions)s, toUInt64(0))
