-- Whole backups, oldest first.
SELECT
    name, toUnixTimestamp64Milli(begun_at), toUnixTimestamp64Milli(finished_at), migration, bytes, partitions, positions
FROM backups
ORDER BY finished_at
