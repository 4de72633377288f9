-- Which of these click ids (32 hexadecimal digits) became something.
WITH arrayMap(id -> unhex(id), %(ids)s) AS ids
SELECT DISTINCT lower(hex(click_id))
FROM
(
    SELECT click_id FROM flattrs WHERE click_id IN ids
    UNION ALL
    SELECT click_id FROM duplicates WHERE click_id IN ids
    UNION ALL
    SELECT click_id FROM undos WHERE click_id IN ids
    UNION ALL
    SELECT click_id FROM late WHERE click_id IN ids
    UNION ALL
    SELECT click_id FROM rejected WHERE click_id IN ids
)
