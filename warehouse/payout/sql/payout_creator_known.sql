-- Whether a creator was ever registered, counted or paid.
SELECT
    (SELECT count() FROM creators WHERE creator_id = %(creator_id)s)
    + (SELECT count() FROM counts_by_creator WHERE creator_id = %(creator_id)s)
    + (SELECT count() FROM payouts WHERE creator_id = %(creator_id)s) > 0
