-- Flattrs of one month and partition that changed after a position, with their names.
SELECT member_id, creator_id, thing_id, version, first_position, position
FROM flattrs
WHERE month = %(month)s
    AND position > %(position)s
    AND kafkaMurmurHash(member_id) %% %(partitions)s = %(partition)s
