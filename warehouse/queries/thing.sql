-- Whose a thing is and where: (creator_id, thing), no row when nobody ever flattred it.
SELECT min(creator_id), min(thing)
FROM things
WHERE thing_id = unhex(%(thing_id)s)
GROUP BY thing_id
