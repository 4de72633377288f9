-- How the outliers of a month stand.
SELECT kind, name, measure, argMax(present, at) AS value, argMax(before, at), argMax(who, at)
FROM outliers
WHERE month = %(month)s
GROUP BY kind, name, measure
HAVING value > 0
ORDER BY kind, measure, value DESC, name
