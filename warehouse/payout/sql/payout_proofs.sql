-- The proofs of the closed months up to and including one, oldest first.
SELECT proof FROM seals FINAL WHERE month <= %(month)s ORDER BY month
