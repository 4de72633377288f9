-- The stages that this run of a month has finished, unless another run has used the staging tables since.
SELECT DISTINCT stage
FROM close_log
WHERE month = %(month)s AND run = %(run)s
  AND run = (SELECT argMax(run, done_at) FROM close_log WHERE month = %(month)s)
