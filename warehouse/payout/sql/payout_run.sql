-- A provisional run's number and proof; 0 selects the newest.
SELECT run, proof
FROM provisional_runs
WHERE month = %(month)s AND (%(run)s = 0 OR run = %(run)s)
ORDER BY run DESC
LIMIT 1
