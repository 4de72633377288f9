-- Every member who ever flattred, or pledged without the pledge being taken back.
SELECT member_id
FROM pledges
WHERE amount_micro > 0 AND version IN (SELECT version FROM pledge_imports)
    AND (month, member_id) NOT IN
    (
        SELECT month, member_id FROM pledges
        WHERE amount_micro = 0 AND version IN (SELECT version FROM pledge_imports)
    )
GROUP BY member_id
UNION DISTINCT
SELECT member_id FROM counts_by_member GROUP BY member_id
UNION DISTINCT
SELECT member_id FROM pools WHERE month IN (SELECT month FROM archived_months) GROUP BY member_id
