-- Rows of open months, and subscriptions, that still have the member's id: newer than progress, or written by a worker that had not read
-- the list of erasures yet.
SELECT
    (SELECT count() FROM flattrs WHERE month >= %(open_from)s AND member_id = %(member)s)
    + (SELECT count() FROM counts_by_member WHERE month >= %(open_from)s AND member_id = %(member)s)
    + (SELECT count() FROM subscription_orders WHERE member_id = %(member)s)
