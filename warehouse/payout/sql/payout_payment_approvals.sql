-- What was signed for a month, oldest first. Whether a signature holds is not decided here.
SELECT approver, public_key, payment_order, file_sha256, signature, approved_at
FROM payment_approvals
WHERE month = %(month)s
ORDER BY approved_at, approver
