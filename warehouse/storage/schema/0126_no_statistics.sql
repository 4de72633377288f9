-- The server computes statistics of every column by itself, whenever it merges. What reads these tables goes by their keys
-- and has no use for them, and a merge of counts costs a tenth to a quarter more by them.
ALTER TABLE counts_by_creator MODIFY SETTING auto_statistics_types = '';
ALTER TABLE counts_by_thing MODIFY SETTING auto_statistics_types = '';
ALTER TABLE counts_by_member MODIFY SETTING auto_statistics_types = '';
ALTER TABLE counts_by_creator_moving MODIFY SETTING auto_statistics_types = '';
ALTER TABLE counts_by_thing_moving MODIFY SETTING auto_statistics_types = '';
ALTER TABLE things MODIFY SETTING auto_statistics_types = '';
ALTER TABLE duplicates MODIFY SETTING auto_statistics_types = '';
ALTER TABLE undos MODIFY SETTING auto_statistics_types = '';
ALTER TABLE retimed MODIFY SETTING auto_statistics_types = '';
ALTER TABLE progress MODIFY SETTING auto_statistics_types = '';
ALTER TABLE log_ends MODIFY SETTING auto_statistics_types = '';
