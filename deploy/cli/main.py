"""The `flattr` command."""

from __future__ import annotations

import importlib
import logging
import os
import pkgutil
import sys
from typing import Any, Final

import typer

from deploy.cli import commands
from deploy.cli.variables import unknown
from deploy.stack.running import adopt_running_stack

#: Packages that are not in the production image (.dockerignore).
_CHECKOUT_ONLY: Final = ("benchmarks", "deploy.demo", "deploy.proving")


def command_line(typed: str = "") -> typer.Typer:
    """The whole of it; or, where ``typed`` is the name of a module that has the command of this name, that alone.

    Whoever types a command waits for its start, and the other modules would be most of it.
    """
    app = typer.Typer(
        name="flattr",
        help="Micropayments counted once and paid to the micro-euro.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        # With one command alone typer would have no names.
        callback=lambda: None,
    )
    # Each module in deploy/cli/commands has ``register(app)``, which adds its commands. They import heavy modules
    # inside their functions.
    names = [module.name for module in pkgutil.iter_modules(commands.__path__)]
    if typed in names:
        _register(app, typed)
        added = [one.name for one in app.registered_commands] + [one.name for one in app.registered_groups]
        if typed in added:
            return app
    for name in names:
        if name != typed:
            _register(app, name)
    return app


def _register(app: typer.Typer, name: str) -> None:
    importlib.import_module(f"deploy.cli.commands.{name}").register(app)


def _whole() -> Any:  # noqa: ANN401 - typer brings its own click
    return typer.main.get_command(command_line())


def main() -> None:
    """Run the command line. An expected error prints one sentence and exits with code 1."""
    from deploy.cli.terminal import open_standard_streams

    open_standard_streams()
    # Until a service sets up its log, libraries say nothing: what fails is said in one sentence, without tracebacks.
    logging.getLogger().addHandler(logging.NullHandler())
    typed = sys.argv[1] if len(sys.argv) > 1 else ""
    for warning in unknown(os.environ, _whole):
        _say(warning, "yellow")
    adopt_running_stack(typed)
    try:
        command_line(typed)(obj=_whole)  # for the doctor
    except Exception as error:
        told = _told(error)
        if told is None:
            raise
        _say(told, "red")
        sys.exit(1)


def _told(error: Exception) -> str | None:
    """What is said of an expected error, None of any other. Only now, since most commands fail at nothing."""
    from deploy.cli.failures import EXPECTED, sentence

    if isinstance(error, EXPECTED):
        return sentence(error)
    if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith(_CHECKOUT_ONLY):
        return (
            "this command is for benchmarks, tests or demos, and is not part of the production image. "
            "Run it from a checkout of the project: `make install`, then `.venv/bin/flattr`."
        )
    return None


def _say(sentence: str, colour: str) -> None:
    from rich.console import Console

    # As it is: names in it may look like markup, or like the names of pictures.
    console = Console(stderr=True, soft_wrap=True, emoji=False, markup=False, highlight=False)
    console.print(f"flattr: {sentence}", style=colour)
