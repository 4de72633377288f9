-- As of when the newest whole backup is, in ms; before the first one, when the database was made.
SELECT toUnixTimestamp64Milli(greatest(
    (SELECT max(begun_at) FROM backups),
    (SELECT min(applied_at) FROM migrations)
))
