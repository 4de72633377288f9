-- The newest version of the quarantine of each month in which something was ever flagged: (month, version).
SELECT month, max(version) FROM quarantine_versions GROUP BY month
