-- The newest versions of the inputs, and the last adjustment that the close before this took.
SELECT
    (SELECT max(version) FROM pledge_imports),
    (SELECT max(version) FROM creators),
    (SELECT max(version) FROM adjustments),
    (
        SELECT max(JSONExtractUInt(proof, 'snapshot', 'adjustments_version')) FROM seals WHERE month < %(month)s
    )
