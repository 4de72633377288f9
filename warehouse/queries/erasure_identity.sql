-- A member's hash and partition, and the first of the candidates that falls into the same partition.
WITH kafkaMurmurHash(%(member)s) %% %(partitions)s AS partition
SELECT
    hex(murmurHash3_128(%(member)s)),
    partition,
    arrayFirst(name -> kafkaMurmurHash(name) %% %(partitions)s = partition, %(candidates)s)
