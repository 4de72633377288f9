-- The proof of a closed month, the text that its seal hashes.
SELECT proof FROM first_seals WHERE month = %(month)s
