-- Whether anybody pledged for a month, and how many flattrs were clicked in it.
SELECT
    (SELECT count() FROM pledges WHERE month = %(month)s AND version IN (SELECT version FROM pledge_imports)),
    (SELECT count() FROM flattrs WHERE month = %(month)s AND first_position < 18446744073709551615)
