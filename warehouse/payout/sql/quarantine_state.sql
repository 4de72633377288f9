-- Where a month's quarantine stands: the newest step of its log, its newest version with the step and
-- the keys in it, and the number above all versions that were ever written, also by a run that died.
SELECT
    (SELECT max(step) FROM quarantine_log WHERE month = %(month)s),
    (SELECT max(version) FROM quarantine_versions WHERE month = %(month)s),
    (SELECT max(step) FROM quarantine_versions WHERE month = %(month)s),
    (SELECT argMax(flattrs, version) FROM quarantine_versions WHERE month = %(month)s),
    greatest((SELECT max(version) FROM quarantine_versions), (SELECT max(version) FROM quarantine_set)) + 1
