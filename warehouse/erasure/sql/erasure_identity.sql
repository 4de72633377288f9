-- A member's keyed hash (SipHash-128 under the identity key) and partition, and the first candidate pseudonym that
-- falls into the same partition.
WITH
    (SELECT groupArray((k0, k1)) FROM identity_key) AS keys,
    keys[1 + throwIf(length(keys) != 1, 'the table identity_key has not one row')] AS identity,
    kafkaMurmurHash(%(member)s) %% %(partitions)s AS partition
SELECT
    hex(sipHash128ReferenceKeyed(identity, %(member)s)),
    partition,
    arrayFirst(name -> kafkaMurmurHash(name) %% %(partitions)s = partition, %(candidates)s)
