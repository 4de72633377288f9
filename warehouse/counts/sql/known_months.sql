-- Months of which anything is known: the partitions of the tables that reads of a month look at, so nothing is read.
SELECT DISTINCT toUInt32OrZero(partition) AS month
FROM system.parts
WHERE database = currentDatabase() AND active AND rows > 0 AND table IN
(
    'flattrs', 'counts_by_creator', 'counts_by_thing', 'counts_by_member', 'duplicates', 'undos', 'late', 'rejected',
    'pledges', 'pools', 'payouts'
)
