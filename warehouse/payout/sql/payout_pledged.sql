-- Whether anybody pledges for a month, and how many flattrs were clicked in it.
SELECT
    (
        SELECT count()
        FROM
        (
            SELECT member_id
            FROM pledges
            WHERE month = %(month)s AND version IN (SELECT version FROM pledge_imports)
            GROUP BY member_id
            HAVING argMax(amount_micro, version) > 0
        )
    ),
    (SELECT count() FROM flattrs WHERE month = %(month)s AND first_position < 18446744073709551615)
