-- How many partitions a log epoch has, noted by the first worker. No other number is counted (streams/source/log_partitions.py).
CREATE TABLE IF NOT EXISTS log_partitions
(
    epoch      UInt8,
    partitions UInt32,
    noted_at   DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = MergeTree
ORDER BY (epoch, noted_at);
