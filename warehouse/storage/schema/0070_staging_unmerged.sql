-- What a close stages is read a few times and then published or dropped: merging its parts meanwhile took a tenth of
-- the close's processor time. Parts of a mebibyte and more stay as they are; once published they lie in the table of
-- the same name without _staging, whose merges are as ever. A part of pools has 75,000 members, and a partition
-- takes 3,000 parts.
--
-- A setting that is set twice says the same, so after a crash the file runs again.
ALTER TABLE pools_staging MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1048576;
ALTER TABLE payouts_staging MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1048576;
ALTER TABLE ledger_staging MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1048576;
