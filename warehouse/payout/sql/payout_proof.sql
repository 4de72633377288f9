-- The proof of a closed month, the text that its seal hashes.
SELECT proof FROM seals FINAL WHERE month = %(month)s
