-- The counts in granules of 1,024 rows instead of 8,192: a count is asked for by its key and costs the granules
-- that hold it, so forty things cost half the processor time; merges cost a tenth more. The granularity of a
-- table cannot be altered, so each table is copied. Stop the stream workers meanwhile.
--
-- A row says the same however often it is written (the newest position wins), so after a crash the file runs again:
--   1 drop what a crash left    a copy half filled, or (after step 4) the old table, whose rows stand in the new one
--   2 create the copy           nothing
--   3 fill it                   nothing: step 1 drops it
--   4 exchange, atomic          another copy, from the new table
--   5 drop the old table        nothing
DROP TABLE IF EXISTS counts_by_creator_fine;
CREATE TABLE counts_by_creator_fine AS counts_by_creator
ENGINE = ReplacingMergeTree(position)
PARTITION BY month
ORDER BY (month, creator_id, partition)
SETTINGS index_granularity = 1024, min_compress_block_size = 16384;
INSERT INTO counts_by_creator_fine SELECT * FROM counts_by_creator;
EXCHANGE TABLES counts_by_creator AND counts_by_creator_fine;
DROP TABLE IF EXISTS counts_by_creator_fine;

DROP TABLE IF EXISTS counts_by_thing_fine;
CREATE TABLE counts_by_thing_fine AS counts_by_thing
ENGINE = ReplacingMergeTree(position)
PARTITION BY month
ORDER BY (month, thing_id, partition)
SETTINGS index_granularity = 1024, min_compress_block_size = 16384;
INSERT INTO counts_by_thing_fine SELECT * FROM counts_by_thing;
EXCHANGE TABLES counts_by_thing AND counts_by_thing_fine;
DROP TABLE IF EXISTS counts_by_thing_fine;

DROP TABLE IF EXISTS counts_by_member_fine;
CREATE TABLE counts_by_member_fine AS counts_by_member
ENGINE = ReplacingMergeTree(position)
PARTITION BY month
ORDER BY (month, member_id, creator_id)
SETTINGS index_granularity = 1024, min_compress_block_size = 16384;
INSERT INTO counts_by_member_fine SELECT * FROM counts_by_member;
EXCHANGE TABLES counts_by_member AND counts_by_member_fine;
DROP TABLE IF EXISTS counts_by_member_fine;
