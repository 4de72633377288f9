"""The `flattr` command."""

from __future__ import annotations

import importlib
import logging
import os
import pkgutil
import sys
from typing import Final

import typer
from rich.console import Console

from deploy.cli import commands
from deploy.cli.variables import unknown
from deploy.stack.running import adopt_running_stack

#: Packages that are not in the production image (.dockerignore).
_CHECKOUT_ONLY: Final = ("benchmarks", "deploy.demo", "deploy.proving")

app = typer.Typer(
    name="flattr",
    help="Micropayments counted once and paid to the micro-euro.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# Each module in deploy/cli/commands has ``register(app)``, which adds its commands. They import heavy modules inside
# their functions, so that `flattr --help` starts fast.
for _module in pkgutil.iter_modules(commands.__path__):
    importlib.import_module(f"deploy.cli.commands.{_module.name}").register(app)


def main() -> None:
    """Run the command line. An expected error prints one sentence and exits with code 1."""
    from deploy.cli.failures import EXPECTED, sentence
    from deploy.cli.terminal import open_standard_streams

    open_standard_streams()
    # Until a service sets up its log, libraries say nothing: what fails is said in one sentence, without tracebacks.
    logging.getLogger().addHandler(logging.NullHandler())
    for warning in unknown(os.environ, typer.main.get_command(app)):
        _say(warning, "yellow")
    adopt_running_stack(sys.argv[1] if len(sys.argv) > 1 else "")
    try:
        app()
    except EXPECTED as error:
        _fail(sentence(error))
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith(_CHECKOUT_ONLY):
            raise
        _fail(
            "this command is for benchmarks, tests or demos, and is not part of the production image. "
            "Run it from a checkout of the project: `make install`, then `.venv/bin/flattr`."
        )


def _fail(sentence: str) -> None:
    _say(sentence, "red")
    sys.exit(1)


def _say(sentence: str, colour: str) -> None:
    # As it is: names in it may look like markup, or like the names of pictures.
    console = Console(stderr=True, soft_wrap=True, emoji=False, markup=False, highlight=False)
    console.print(f"flattr: {sentence}", style=colour)
