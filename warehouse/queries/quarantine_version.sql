-- The newest version of a month's quarantine; 0 while nothing was ever flagged.
SELECT max(version) FROM quarantine_versions WHERE month = %(month)s
