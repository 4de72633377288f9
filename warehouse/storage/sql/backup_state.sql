-- How far a BACKUP or RESTORE is: (status, error, bytes).
SELECT status::String, error, total_size
FROM system.backups
WHERE id = %(id)s
