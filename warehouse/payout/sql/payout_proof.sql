-- The proof of a closed month: the text whose hash is the seal.
SELECT proof FROM seals FINAL WHERE month = %(month)s
