-- Erasures that were begun and not finished.
SELECT erasure
FROM erasure_log
GROUP BY erasure
HAVING argMax(step, at) != 'done'
ORDER BY erasure
