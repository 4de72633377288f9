-- What is stated of a few creators in a month: (creator_id, partition, position, flattrs), with rows that newer ones replace.
SELECT creator_id, partition, position, flattrs
FROM counts_by_creator
WHERE month = %(month)s AND creator_id IN %(creator_ids)s
