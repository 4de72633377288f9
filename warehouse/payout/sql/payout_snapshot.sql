-- The newest versions of the inputs, and the month's quarantine: its version, and the last step of its log included in
-- that version.
SELECT
    (SELECT max(version) FROM pledge_imports),
    (SELECT max(version) FROM creators),
    (SELECT max(version) FROM quarantine_versions WHERE month = %(month)s),
    (SELECT max(step) FROM quarantine_versions WHERE month = %(month)s)
