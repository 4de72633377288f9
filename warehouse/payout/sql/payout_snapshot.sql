-- The newest versions of the inputs, the last adjustment taken by the previous close, and the month's quarantine: its
-- version, and the last step of its log included in that version.
SELECT
    (SELECT max(version) FROM pledge_imports),
    (SELECT max(version) FROM creators),
    (SELECT max(version) FROM adjustments),
    (
        SELECT max(JSONExtractUInt(proof, 'snapshot', 'adjustments_version')) FROM first_seals WHERE month < %(month)s
    ),
    (SELECT max(version) FROM quarantine_versions WHERE month = %(month)s),
    (SELECT max(step) FROM quarantine_versions WHERE month = %(month)s)
