"""What must exist before the first start: topics, access rights and secrets; and the table of settings."""
