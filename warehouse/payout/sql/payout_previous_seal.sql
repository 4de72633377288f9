-- The seal of the newest closed month before this one.
SELECT seal FROM first_seals WHERE month < %(month)s ORDER BY month DESC LIMIT 1
