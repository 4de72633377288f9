-- The newest quarantine version of each month in which anything was ever flagged: (month, version).
SELECT month, max(version) FROM quarantine_versions GROUP BY month
