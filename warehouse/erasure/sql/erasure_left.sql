-- Rows that still bear the member's id in the open months: what is newer than progress, or came from a worker
-- that had not read the list yet.
SELECT
    (SELECT count() FROM flattrs WHERE month >= %(open_from)s AND member_id = %(member)s)
    + (SELECT count() FROM counts_by_member WHERE month >= %(open_from)s AND member_id = %(member)s)
