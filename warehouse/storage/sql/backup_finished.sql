-- Note that all parts of a backup but this row are copied.
INSERT INTO backups (name, begun_at, finished_at, migration, bytes, partitions, positions)
SELECT
    %(name)s, fromUnixTimestamp64Milli(toInt64(%(begun_at)s), 'UTC'), now64(3), %(migration)s, %(bytes)s,
    %(partitions)s, %(positions)s
