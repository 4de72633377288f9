-- A member's keyed hash (SipHash-128 under the identity key), the place among `shared`, a multiple of the number of
-- partitions, and the first candidate pseudonym in the same place.
WITH
    (SELECT groupArray((k0, k1)) FROM identity_key) AS keys,
    keys[1 + throwIf(length(keys) != 1, 'the table identity_key has not one row')] AS identity,
    kafkaMurmurHash(%(member)s) %% %(shared)s AS place
SELECT
    hex(sipHash128ReferenceKeyed(identity, %(member)s)),
    place,
    arrayFirst(
        name -> kafkaMurmurHash(name) %% %(shared)s = place,
        arrayMap(number -> concat(%(prefix)s, lower(hex(toUInt32(number)))), range(%(candidates)s)))
