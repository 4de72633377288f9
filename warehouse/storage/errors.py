"""Warehouse errors, by what the caller should do. The driver's own exceptions never leave client.py."""


class WarehouseError(Exception):
    """Base class: the warehouse did not do what it was asked."""


class WarehouseUnavailable(WarehouseError):
    """Retry: the server is unreachable, overloaded or out of memory; the same call may succeed later."""


class WarehouseRefused(WarehouseError):
    """Stop: the statement, the schema or the permissions are wrong; a retry will not help. ``code`` is ClickHouse's."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class MigrationError(WarehouseError):
    """The database and the migration files disagree; the message says where."""
