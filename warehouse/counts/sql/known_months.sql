-- Months that have any rows, taken from the names of the tables' partitions: no data is read.
SELECT DISTINCT toUInt32OrZero(partition) AS month
FROM system.parts
WHERE database = currentDatabase() AND active AND rows > 0 AND replaceRegexpOne(table, '_here$', '') IN
(
    'flattrs', 'counts_by_creator', 'counts_by_thing', 'counts_by_member', 'duplicates', 'undos', 'late', 'rejected',
    'pledges', 'pools', 'payouts'
)
