"""Errors of the warehouse, by what the caller does about them. The driver's own go no further than client.py."""


class WarehouseError(Exception):
    """Anything the warehouse answers instead of doing what it was asked."""


class WarehouseUnavailable(WarehouseError):
    """Retry: the server is away, overloaded or out of memory; the same call may go through later."""


class WarehouseRefused(WarehouseError):
    """Stop: the statement, the schema or the rights are wrong, and a retry will not mend that."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code
