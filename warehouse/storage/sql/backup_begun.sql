-- What a backup notes before it copies anything: (server's clock in ms, newest migration, partitions, positions).
SELECT
    toUnixTimestamp64Milli(now64(3)),
    (SELECT max(number) FROM migrations),
    groupArray(partition),
    groupArray(newest)
FROM (SELECT partition, max(position) AS newest FROM progress GROUP BY partition ORDER BY partition)
