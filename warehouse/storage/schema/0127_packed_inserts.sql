-- A flush is eight inserts, and each made 13 files, those of flattrs' projection beside them. Where a new file is costly, that was up to half of what
-- a flush costs the server. Until its first merge a part is now one file. Merged parts are as before, and so are those that stand.
-- A server before 26.7 cannot read such parts.
ALTER TABLE flattrs MODIFY SETTING min_level_for_full_part_storage = 1;
ALTER TABLE counts_by_creator MODIFY SETTING min_level_for_full_part_storage = 1;
ALTER TABLE counts_by_thing MODIFY SETTING min_level_for_full_part_storage = 1;
ALTER TABLE counts_by_member MODIFY SETTING min_level_for_full_part_storage = 1;
ALTER TABLE duplicates MODIFY SETTING min_level_for_full_part_storage = 1;
ALTER TABLE undos MODIFY SETTING min_level_for_full_part_storage = 1;
ALTER TABLE late MODIFY SETTING min_level_for_full_part_storage = 1;
ALTER TABLE rejected MODIFY SETTING min_level_for_full_part_storage = 1;
ALTER TABLE retimed MODIFY SETTING min_level_for_full_part_storage = 1;
ALTER TABLE subscription_orders MODIFY SETTING min_level_for_full_part_storage = 1;
ALTER TABLE things MODIFY SETTING min_level_for_full_part_storage = 1;
ALTER TABLE progress MODIFY SETTING min_level_for_full_part_storage = 1;
ALTER TABLE log_ends MODIFY SETTING min_level_for_full_part_storage = 1;
