-- Who may approve payments now, and with which key.
SELECT name, argMax(public_key, changed_at)
FROM approvers
GROUP BY name
HAVING argMax(enrolled, changed_at) = 1
ORDER BY name
