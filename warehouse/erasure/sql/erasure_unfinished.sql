-- Erasures that were begun and whose last step is not done.
SELECT erasure
FROM erasure_log
GROUP BY erasure
HAVING argMax(step, at) != 'done'
ORDER BY erasure
