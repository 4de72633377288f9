-- The keys that approved a seal, oldest first.
SELECT key_sha256, any(key_name)
FROM approvals
WHERE month = %(month)s AND seal = %(seal)s
GROUP BY key_sha256
ORDER BY min(approved_at), key_sha256
