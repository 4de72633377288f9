-- What of each payment is credited to its creator again, whether withheld or come back, by what the entries cite.
SELECT cites, sum(amount_micro), max(startsWith(reason, 'withheld: '))
FROM (SELECT DISTINCT id, cites, amount_micro, reason FROM adjustments WHERE kind = 'return')
GROUP BY cites
