-- Whether anybody pledges for a month, and whether any flattr was counted in it: one of each is enough.
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
            LIMIT 1
        )
    ),
    (SELECT count() FROM (SELECT 1 FROM flattrs WHERE month = %(month)s AND first_position < 18446744073709551615 LIMIT 1))
