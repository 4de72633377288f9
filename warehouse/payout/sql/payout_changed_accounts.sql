-- When each creator's account was last changed to another one, by the server's time; nobody who has had one account
-- only.
SELECT creator_id, max(noted_at)
FROM
(
    SELECT
        creator_id, iban, noted_at,
        lagInFrame(iban, 1, iban) OVER (
            PARTITION BY creator_id ORDER BY version, noted_at ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS before
    FROM accounts_noted
)
WHERE iban != before
GROUP BY creator_id
