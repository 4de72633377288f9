-- Months of which anything was counted.
SELECT DISTINCT arrayJoin(tallies.month) AS month FROM progress FINAL ORDER BY month
