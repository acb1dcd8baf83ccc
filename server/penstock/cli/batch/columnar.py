"""The way to what needs pyarrow, which not everybody has."""

from collections.abc import Callable
from types import ModuleType

from penstock.core.errors import ConfigError

__all__ = ["columns_module", "table_module"]


def columns_module() -> ModuleType:
    """Return the module that reads and writes Arrow and Parquet; ConfigError where their library is missing."""

    def load() -> ModuleType:
        from penstock.cli.batch import columns

        return columns

    return _loaded(load)


def table_module() -> ModuleType:
    """Return the module that takes columns out of tables; ConfigError likewise."""

    def load() -> ModuleType:
        from penstock.cli.batch import table_cut

        return table_cut

    return _loaded(load)


def _loaded(load: Callable[[], ModuleType]) -> ModuleType:
    try:
        return load()
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        raise ConfigError("Arrow and Parquet need pyarrow: pip install 'penstock[arrow]'") from error
