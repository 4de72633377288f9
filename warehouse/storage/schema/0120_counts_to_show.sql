-- Counts as everybody is shown them: flattrs that stand outside quarantine, and beside them those in it. For Grafana and
-- for SQL by hand. The API's own statements answer the same for less (tests/quarantine/test_views.py holds them together).
-- Who may read these need not be able to read who flattred what: the views read it by the rights of who migrated.
CREATE VIEW IF NOT EXISTS creator_flattrs DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT month, creator_id, toUInt64(sum(active) - sum(held)) AS flattrs, toUInt64(sum(held)) AS quarantined
FROM
(
    SELECT month, creator_id, toInt64(argMax(stated.flattrs, position)) AS active, toInt64(0) AS held
    FROM counts_by_creator AS stated
    GROUP BY month, creator_id, partition
    UNION ALL
    SELECT month, creator_id, toInt64(0), toInt64(1)
    FROM flattrs
    WHERE (month, member_id, creator_id, thing_id) IN (SELECT month, member_id, creator_id, thing_id FROM quarantined)
    GROUP BY month, member_id, creator_id, thing_id
    HAVING bitTest(max(flattrs.version), 19) = 0
)
GROUP BY month, creator_id;

-- The same by day of the click (UTC).
CREATE VIEW IF NOT EXISTS day_flattrs DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT month, toDate(at, 'UTC') AS day, countIf(NOT held) AS flattrs, countIf(held) AS quarantined
FROM
(
    SELECT
        month, max(clicked_at) AS at, max(flattrs.version) AS version,
        (month, member_id, creator_id, thing_id) IN (SELECT month, member_id, creator_id, thing_id FROM quarantined) AS held
    FROM flattrs
    GROUP BY month, member_id, creator_id, thing_id
    HAVING bitTest(version, 19) = 0
)
GROUP BY month, day;

-- What closed months paid, in all. Amounts are micro-units.
CREATE VIEW IF NOT EXISTS closed_months DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT
    month, countIf(payouts.paid_micro > 0) AS creators_paid, sum(payouts.paid_micro) AS paid_micro,
    sum(carried_out_micro) AS carried_micro, sum(held_out_micro) AS held_micro
FROM payouts
WHERE month IN (SELECT month FROM seals)
GROUP BY month;
