-- Creator and address of things: (thing_id in hex, creator_id, thing); no row for a thing that nobody ever flattred.
SELECT lower(hex(thing_id)), min(creator_id), min(thing)
FROM things
WHERE thing_id IN (SELECT toFixedString(unhex(arrayJoin(%(thing_ids)s)), 16))
GROUP BY thing_id
