-- Months with counts that may still change or are compared with the flattrs: those that are not sealed, and the newest two.
WITH (SELECT max(month) FROM seals) AS closed
SELECT month
FROM (SELECT month, row_number() OVER (ORDER BY month DESC) AS place FROM (SELECT DISTINCT month FROM counts_by_creator))
WHERE month > closed OR place <= 2
ORDER BY month
