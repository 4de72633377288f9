-- How many stages of any run of a month are in the log.
SELECT count() FROM close_log WHERE month = %(month)s
