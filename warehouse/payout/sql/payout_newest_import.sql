-- The hash of the newest import, and the largest version taken, by rows of an import that died too.
SELECT
    (SELECT argMax(sha256, version) FROM pledge_imports),
    greatest((SELECT max(version) FROM pledge_imports), (SELECT max(version) FROM pledges))
