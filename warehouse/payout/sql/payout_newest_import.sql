-- The hash of the newest import, and the largest version in use, including rows of an import that crashed.
SELECT
    (SELECT argMax(sha256, version) FROM pledge_imports),
    greatest((SELECT max(version) FROM pledge_imports), (SELECT max(version) FROM pledges))
