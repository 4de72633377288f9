-- When a month's subscriptions were last posted, and how many flattrs were posted in all.
SELECT max(posted_at), sum(flattrs)
FROM subscriptions_posted
WHERE month = %(month)s
HAVING count() > 0
