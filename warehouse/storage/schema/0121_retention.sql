-- Copies and notes that nobody needs for ever get the time at which the server stored them, and leave. How long each
-- stays is a setting (warehouse/storage/retention.py), which `flattr warehouse migrate` applies; these are its defaults.
-- Rows from before are as old as this migration.
ALTER TABLE replayed_flattrs
    ADD COLUMN IF NOT EXISTS stored_at SimpleAggregateFunction(max, DateTime('UTC')) DEFAULT now('UTC');
ALTER TABLE replayed_flattrs MATERIALIZE COLUMN stored_at;
ALTER TABLE replayed_flattrs MODIFY TTL stored_at + INTERVAL 30 DAY;

ALTER TABLE replayed_orders
    ADD COLUMN IF NOT EXISTS stored_at SimpleAggregateFunction(max, DateTime('UTC')) DEFAULT now('UTC');
ALTER TABLE replayed_orders MATERIALIZE COLUMN stored_at;
ALTER TABLE replayed_orders MODIFY TTL stored_at + INTERVAL 30 DAY;

-- A run is there when its row in provisional_runs is, so its lines must not leave first.
ALTER TABLE provisional_runs ADD COLUMN IF NOT EXISTS stored_at DateTime('UTC') DEFAULT now('UTC');
ALTER TABLE provisional_runs MATERIALIZE COLUMN stored_at;
ALTER TABLE provisional_runs MODIFY TTL stored_at + INTERVAL 400 DAY;

ALTER TABLE provisional_payouts ADD COLUMN IF NOT EXISTS stored_at DateTime('UTC') DEFAULT now('UTC');
ALTER TABLE provisional_payouts MATERIALIZE COLUMN stored_at;
ALTER TABLE provisional_payouts MODIFY TTL stored_at + INTERVAL 430 DAY;
