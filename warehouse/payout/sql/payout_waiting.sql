-- Adjustments that no close before this month has taken. Proofs list what they took; the oldest took every version up to
-- a number instead.
SELECT DISTINCT id
FROM adjustments
WHERE version > (SELECT max(JSONExtractUInt(proof, 'snapshot', 'adjustments_version')) FROM first_seals WHERE month < %(month)s)
    AND id NOT IN
    (
        SELECT arrayJoin(JSONExtract(proof, 'adjustments', 'Array(String)')) FROM first_seals WHERE month < %(month)s
    )
ORDER BY id
