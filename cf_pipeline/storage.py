"""Dagster's history in SQLite, safe to be begun by several processes at once."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from filelock import FileLock

if TYPE_CHECKING:
    from dagster._serdes import ConfigurableClassData


class SqliteStorage(DagsterSqliteStorage):
    """Dagster's own storage, whose tables one process makes while the others wait.

    Dagster makes them when it first opens the history, without a lock: of several commands that
    start together in a fresh directory, some end with "table runs already exists". `dagster.yaml`
    names this class, so nobody meets that.
    """

    @classmethod
    def from_config_value(
        cls, inst_data: "ConfigurableClassData | None", config_value: Mapping[str, Any]
    ) -> Self:
        """Return the storage in `base_dir`, its tables made if they are not there."""
        base_dir = Path(config_value["base_dir"])
        base_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(base_dir / "storage.lock"):
            return cls.from_local(inst_data=inst_data, **config_value)
