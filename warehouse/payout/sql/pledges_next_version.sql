-- The next import's version: above all in use, rows of an import that crashed included.
SELECT greatest((SELECT max(version) FROM pledge_imports), (SELECT max(version) FROM pledges)) + 1
