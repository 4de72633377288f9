-- Whose each mandate id ever was, and whether it is withdrawn.
SELECT mandate_id, any(member_id), argMax(withdrawn, version)
FROM mandates
GROUP BY mandate_id
