-- Creator and address of things: (thing_id in hex, creator_id, thing), a row of each data part that has one.
-- The smallest of each is the one that merging leaves: chosen by the reader, which spares the server an aggregation.
SELECT lower(hex(thing_id)), creator_id, thing
FROM things
WHERE thing_id IN %(thing_ids)s
