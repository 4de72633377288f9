-- The stages that a month's newest run has finished: (stage, when in ms). A run that starts over logs its gate again,
-- so what it did before is not counted.
SELECT stage, toUnixTimestamp64Milli(max(done_at))
FROM close_log
WHERE month = %(month)s
  AND run = (SELECT argMax(run, done_at) FROM close_log WHERE month = %(month)s)
  AND done_at >= (SELECT max(done_at) FROM close_log WHERE month = %(month)s AND stage = 'gate')
GROUP BY stage
ORDER BY stage
