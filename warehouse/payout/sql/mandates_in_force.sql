-- Every member's newest mandate, unless it is withdrawn.
SELECT
    member_id, argMax(mandate_id, version), argMax(signed_on, version), argMax(name, version), argMax(iban, version),
    argMax(bic, version)
FROM mandates
GROUP BY member_id
HAVING argMax(withdrawn, version) = 0
ORDER BY member_id
