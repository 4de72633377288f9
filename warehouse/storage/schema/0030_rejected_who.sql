-- Whose refused input it was, when somebody proved who they are: replaying it needs to know.
ALTER TABLE rejected
    ADD COLUMN IF NOT EXISTS member_id String,
    ADD COLUMN IF NOT EXISTS site_id String;
