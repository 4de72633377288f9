-- A close that lost its lock may have left a statement that still runs: it must not land in the staging tables of the
-- next. The lock is ours, so whoever writes there now has lost it.
KILL QUERY
WHERE user = currentUser() AND current_database = currentDatabase() AND query_kind = 'Insert'
    AND query LIKE '%%INSERT INTO %%\_staging%%'
SYNC
