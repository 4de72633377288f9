-- From a claim to holding: under a number higher than of any holder before.
INSERT INTO locks (name, holder, state, number, host, process)
SELECT %(name)s, %(holder)s, 'held', max(number) + 1, %(host)s, %(process)s
FROM locks
WHERE name = %(name)s
