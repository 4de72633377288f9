-- What is stated of a few things in a month: (thing_id in hex, partition, position, flattrs), as creator_rows.sql.
SELECT lower(hex(thing_id)), partition, position, flattrs
FROM counts_by_thing
WHERE month = %(month)s AND thing_id IN %(thing_ids)s
