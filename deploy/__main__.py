"""`python -m deploy` is the `flattr` command: how the stack starts its own parts."""

from deploy.cli.main import main

main()
