-- What a member's pool consists of: the month's paid pledge, and what is carried from earlier months without flattrs
-- (micro-units). The newest committed import counts.
SELECT
    (
        SELECT argMax(if(paid, amount_micro, 0), version)
        FROM pledges
        WHERE month = %(month)s AND member_id = %(member_id)s AND version IN (SELECT version FROM pledge_imports)
    ),
    (
        SELECT sum(arraySum(lots_micro))
        FROM pools
        WHERE month = %(previous_month)s AND member_id = %(member_id)s
    )
