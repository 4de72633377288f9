-- The state of a month's quarantine: the newest step of its log, its newest version with that version's step and
-- number of flattrs, and the next free version, above those of any run that crashed.
SELECT
    (SELECT max(step) FROM quarantine_log WHERE month = %(month)s),
    (SELECT max(version) FROM quarantine_versions WHERE month = %(month)s),
    (SELECT max(step) FROM quarantine_versions WHERE month = %(month)s),
    (SELECT argMax(flattrs, version) FROM quarantine_versions WHERE month = %(month)s),
    greatest((SELECT max(version) FROM quarantine_versions), (SELECT max(version) FROM quarantine_set)) + 1
