"""`python -m deploy` is the `flattr` command; the stack starts its services with it."""

from deploy.cli.main import main

main()
