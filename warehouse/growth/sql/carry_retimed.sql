-- Decisions about clicks, for every new partition that an old one's members may go to. The key says nothing of the
-- member, so each stands in all of them; it is found only by the click that it is about.
INSERT INTO retimed (month, partition, click_key, position, word)
SELECT month, toUInt16(number) AS part, click_key, position, word
FROM retimed
ARRAY JOIN range(%(partitions)s) AS number
WHERE month >= %(since)s AND position <= %(boundary)s
    AND partition < %(from_partitions)s AND number != partition AND number %% %(from_partitions)s = partition
