-- The proofs of the closed months up to one, oldest first.
SELECT proof FROM first_seals WHERE month <= %(month)s ORDER BY month
