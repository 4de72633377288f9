-- The reason of a creator's hold as a close read it; empty without one.
SELECT argMax(if(held, reason, ''), version) FROM creators
WHERE creator_id = %(creator_id)s AND version <= %(creators_version)s
