-- Which of these click ids (32 hexadecimal digits) have a row in any table. The ids are a subquery, which becomes a
-- hash set; an array to the right of IN would be scanned for every row.
WITH ids AS (SELECT toFixedString(unhex(arrayJoin(%(ids)s)), 16))
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
