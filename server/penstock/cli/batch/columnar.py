"""The way to what needs pyarrow, which not everybody has."""

from types import ModuleType

from penstock.core.errors import ConfigError

__all__ = ["columns_module"]


def columns_module() -> ModuleType:
    """Return the module that reads and writes Arrow and Parquet; ConfigError where their library is missing."""
    try:
        from penstock.cli.batch import columns
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        raise ConfigError("Arrow and Parquet need pyarrow: pip install 'penstock[arrow]'") from error
    return columns
