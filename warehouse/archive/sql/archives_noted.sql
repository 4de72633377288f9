-- How each month stands that was ever archived: (month, state, place, hash of the manifest, bytes, when).
SELECT month, toString(state), place, manifest_sha256, bytes, at
FROM archives
ORDER BY month, at DESC
LIMIT 1 BY month
