-- When each creator's account was last changed to another one; nobody who has had one account only.
SELECT creator_id, max(changed_at)
FROM
(
    SELECT
        creator_id, iban, changed_at,
        lagInFrame(iban, 1, iban) OVER (
            PARTITION BY creator_id ORDER BY version ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS before
    FROM creators
    WHERE iban != ''
)
WHERE iban != before
GROUP BY creator_id
