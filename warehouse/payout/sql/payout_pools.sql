-- Stage compute, step 1: every member's pool, the rule applied to it, and the split.
--
-- A flattr counts if it is active and the log has a flattr click for it (a row whose first_position is the largest
-- number only raised a version); FINAL merges rows written more than once. pool = paid pledge - fee + what is carried
-- from months without flattrs; carried lots remember their month of origin and go to the charity when they expire.
--
-- The split uses the largest remainder method (Hamilton's): shares are rounded down, and the remaining micro-units go
-- one each to the largest remainders. Ties are broken by 20 bits of intHash64(xxh3(creator) xor xxh3('month|member')),
-- smallest first, then by creator. One number orders all three: remainder (24 bits, inverted), hash (20), place in the
-- alphabet (20). A member with 2^20 creators or 2^24 flattrs has no room for the hash: remainder (32), place (32).
-- The reference implementation is warehouse/payout/split.py.
--
-- One range of members at a time, read, grouped and written in the order of members, which is the tables' own: no hash
-- table of all names, no sorting of wide rows, and memory for a block instead of the month (compute.py has the settings).
INSERT INTO pools_staging
(
    month, member_id, currency, pledge_micro, fee_micro, carried_in_micro, pool_micro, counted, flattrs, rule,
    charity_micro, kept_micro, carried_out_micro, lots_month, lots_micro, things,
    creators, creator_flattrs, creator_micro
)
WITH
    intDiv(pledge * %(fee_bps)s, 10000) AS fee,
    arraySum(micros) AS carried_in,
    pledge - fee + carried_in AS pool,
    length(names) AS total,
    multiIf(pool = 0, 'unfunded', total > 0, 'split', %(noclick)s) AS rule,

    -- the lots to carry under the rule `carry`: the earlier ones and this month's own
    arrayPushBack(arrayZip(origins, micros), (toUInt32(%(month)s), toUInt64(pledge - fee))) AS lots,
    arrayFilter(
        lot -> lot.2 > 0
            AND intDiv(%(month)s, 100) * 12 + modulo(%(month)s, 100) - intDiv(lot.1, 100) * 12 - modulo(lot.1, 100)
                < %(noclick_expiry_months)s,
        if(rule = 'carry', lots, [])) AS kept_lots,
    arraySum(lot -> lot.2, kept_lots) AS carried_out,

    -- names is sorted and repeats a creator once per thing
    arrayCompact(names) AS own_creators,
    arrayFilter((place, nth) -> nth = 1, arrayEnumerate(names), arrayEnumerateUniq(names)) AS begins,
    arrayResize(arrayPushBack(arrayPopFront(begins), total + 1), length(begins)) AS ends,
    arrayMap((begin, end) -> toUInt64(end - begin), begins, ends) AS own_flattrs,

    arrayMap(n -> pool * n, own_flattrs) AS products,
    arrayMap(product -> intDiv(product, total), products) AS floors,
    pool - arraySum(floors) AS left,
    xxh3(concat(toString(%(month)s), '|', member_id)) AS salt,
    length(own_creators) >= 1048576 OR total >= 16777216 AS huge,
    arrayMap(
        (creator, product, place) -> bitOr(
            bitShiftLeft(toUInt64(total - modulo(product, total)), huge ? 32 : 40),
            huge ? toUInt64(place)
                : bitOr(bitShiftLeft(bitShiftRight(intHash64(bitXor(xxh3(creator), salt)), 44), 20), toUInt64(place))),
        own_creators, products, arrayEnumerate(own_creators)) AS claims,
    if(left = 0, toUInt64(0), arraySort(claims)[left]) AS last_claim
SELECT
    %(month)s,
    member_id,
    %(currency)s,
    pledge,
    fee,
    carried_in,
    pool,
    counted,
    total,
    rule,
    multiIf(rule = 'charity', pool, rule = 'carry', pool - carried_out, 0),
    if(rule = 'keep', pool, 0),
    carried_out,
    arrayMap(lot -> lot.1, kept_lots),
    arrayMap(lot -> lot.2, kept_lots),
    things,
    own_creators,
    own_flattrs,
    arrayMap((floor, claim) -> floor + (claim <= last_claim), floors, claims)
FROM
(
    SELECT
        member_id,
        count() AS counted,
        arraySort(groupArrayIf(creator_id, NOT bitTest(version, 19))) AS names,
        sumIf(reinterpretAsUInt128(thing_id), NOT bitTest(version, 19)) AS things
    FROM flattrs FINAL
    WHERE month = %(month)s AND first_position != 18446744073709551615
      AND (%(quarantine_version)s = 0 OR (member_id, creator_id, thing_id) NOT IN (SELECT member_id, creator_id, thing_id
        FROM quarantined_as_of(of_month = %(month)s, until = %(quarantine_version)s)))
      AND member_id >= %(from_member)s AND (%(to_member)s = '' OR member_id < %(to_member)s)
    GROUP BY member_id
) AS ballots
FULL OUTER JOIN
(
    SELECT
        member_id, sum(amount) AS pledge, groupArrayArray(lot_origins) AS origins, groupArrayArray(lot_micros) AS micros
    FROM
    (
        SELECT
            member_id,
            argMax(if(paid, amount_micro, 0), version) AS amount,
            CAST([], 'Array(UInt32)') AS lot_origins,
            CAST([], 'Array(UInt64)') AS lot_micros
        FROM pledges
        WHERE month = %(month)s AND version <= %(pledges_version)s AND version IN (SELECT version FROM pledge_imports)
          AND member_id >= %(from_member)s AND (%(to_member)s = '' OR member_id < %(to_member)s)
        GROUP BY member_id
        HAVING argMax(amount_micro, version) > 0 -- 0: taken back, as if it had never been
        UNION ALL
        SELECT member_id, 0, lots_month, lots_micro
        FROM pools
        WHERE month = %(previous_month)s AND notEmpty(lots_month)
          AND member_id >= %(from_member)s AND (%(to_member)s = '' OR member_id < %(to_member)s)
    )
    GROUP BY member_id
) AS funds USING (member_id)
