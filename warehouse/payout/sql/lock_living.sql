-- Who claims or holds a lock now, but for one: the newest row of each is young enough and releases nothing.
SELECT holder, any(host), any(process), formatDateTime(min(at), '%%H:%%i:%%S'), argMax(state, (at, state)) = 'held'
FROM locks
WHERE name = %(name)s AND holder != %(holder)s AND at > now64(6) - INTERVAL 1 HOUR
GROUP BY holder
HAVING argMax(state, (at, state)) != 'released' AND max(at) > now64(6) - INTERVAL %(lease_s)s SECOND
