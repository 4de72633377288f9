-- How many stages of any run of a month were noted.
SELECT count() FROM close_log WHERE month = %(month)s
