"""The error of a setting that pydantic cannot judge."""


class SettingError(ValueError):
    """A setting is invalid. The message names its variable and says what it may be."""
