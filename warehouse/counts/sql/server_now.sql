-- The server's clock in ms, by which rows are stamped as they are stored.
SELECT toUnixTimestamp64Milli(now64(3))
