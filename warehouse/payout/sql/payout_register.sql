-- Every creator's newest row in the register.
SELECT
    creator_id, argMax(claimed, version), argMax(name, version), argMax(iban, version), argMax(bic, version),
    argMax(held, version), argMax(reason, version)
FROM creators
GROUP BY creator_id
ORDER BY creator_id
