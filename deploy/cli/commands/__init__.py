"""The sub-commands of `flattr`, one file per part."""
