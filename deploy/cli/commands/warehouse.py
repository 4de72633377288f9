"""`flattr warehouse`: migrate the database."""

from __future__ import annotations

from contextlib import closing

import typer


def register(app: typer.Typer) -> None:
    """Add the commands."""
    warehouse = typer.Typer(help="The database.", no_args_is_help=True)
    warehouse.command("migrate")(migrate)
    app.add_typer(warehouse, name="warehouse")


def migrate() -> None:
    """Migrate the database at FLATTR_WAREHOUSE to this version, and have tables keep rows for as long as is set."""
    from warehouse.storage import retention
    from warehouse.storage.client import Warehouse
    from warehouse.storage.migrate import migrate as apply
    from warehouse.storage.migrate import migrations
    from warehouse.storage.settings import RetentionSettings, WarehouseSettings
    from warehouse.storage.topology import masked

    url = WarehouseSettings().warehouse.get_secret_value()
    with closing(Warehouse(url)) as warehouse:
        for migration in apply(warehouse):
            typer.echo(f"applied {migration.name}")
        for table in retention.apply(warehouse, RetentionSettings()):
            typer.echo(f"{table.table}: rows leave after {table.after_days} days, not {table.before_days}")
    typer.echo(f"{masked(url)} is at migration {migrations()[-1].number:04}")
