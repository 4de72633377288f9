-- The stages that the newest run of a month has done, provided it is this run: another run
-- in between has overwritten the staging tables.
SELECT DISTINCT stage
FROM close_log
WHERE month = %(month)s AND run = %(run)s
  AND done_at >= (SELECT max(done_at) FROM close_log WHERE month = %(month)s AND stage = 'gate')
  AND %(run)s = (SELECT argMax(run, done_at) FROM close_log WHERE month = %(month)s)
