-- The server's clock in ms, which sets changed_at of the rows it stores.
SELECT toUnixTimestamp64Milli(now64(3))
