-- Every creator who was ever flattred or paid.
SELECT creator_id FROM counts_by_creator GROUP BY creator_id
UNION DISTINCT
SELECT creator_id FROM payouts GROUP BY creator_id
