"""The names of our environment variables: what a setting is called outside, and which names are none of ours."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

_OURS: Final = "FLATTR_"
#: Variables that are no settings: of the tests, and passwords that ClickHouse reads.
_OTHERS: Final = ("FLATTR_DB_PASSWORD_", "FLATTR_HIDE_", "FLATTR_REQUIRE_", "FLATTR_METRICS_FOLDER")


def variable_of(field: str, model: str = "") -> str:
    """The variable of a field, of a settings class if one is named; the field itself if none is known."""
    from deploy.provision.settings_table import fields

    named = (variable for cls, attribute, variable in fields() if model in ("", cls) and field in (attribute, variable))
    return next(named, field)


def unknown(environment: Mapping[str, str], command: Callable[[], Any]) -> Iterator[str]:
    """A sentence for each variable that begins with FLATTR_ and that nothing reads, with the nearest known name.

    ``command`` makes the command line, whose options have variables too; asked only for what no setting has.
    """
    from deploy.provision.settings_table import fields

    given = sorted(name for name in environment if name.startswith(_OURS) and not name.startswith(_OTHERS))
    if not given:
        return
    known = {variable for _, _, variable in fields()}
    if known.issuperset(given):
        return
    known.update(_of_options(command()))
    bare = [one.removeprefix(_OURS) for one in known]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name.removeprefix(_OURS), bare, n=1)
            yield f"{name} is no setting of ours, and does nothing" + (
                f": did you mean {_OURS}{near[0]}?" if near else ""
            )


def _of_options(command: Any) -> Iterator[str]:  # noqa: ANN401 - typer brings its own click
    for option in command.params:
        names = option.envvar or ()
        yield from [names] if isinstance(names, str) else names
    for one in getattr(command, "commands", {}).values():
        yield from _of_options(one)
