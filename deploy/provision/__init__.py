"""What has to exist before a first start: topics, rights, secrets, settings."""
