"""A PostgreSQL server of the tests' own: Debian's, on a free port of the loopback."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cf_pipeline_tests.webserver import free_port

OWNER = "dagster"
# It has what an address would have to quote.
PASSWORD = f"p@ss/w:rd %41#{secrets.token_hex(8)}"


@dataclass(frozen=True)
class Database:
    """A database and who connects to it: the programs' directory, and libpq's variables."""

    programs: Path
    variables: Mapping[str, str]

    def query(self, sql: str) -> str:
        """Run one statement and return its rows, a line each."""
        return subprocess.run(
            [self.programs / "psql", "--no-psqlrc", "-At", "-v", "ON_ERROR_STOP=1", "-c", sql],
            env={**os.environ, **self.variables},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout.strip()

    def create(self, name: str, template: str = "template0") -> "Database":
        """Make a database like `template` that belongs to `OWNER`, and return it as theirs."""
        self.query(f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE {template}")
        theirs = {"PGDATABASE": name, "PGUSER": OWNER}
        return Database(self.programs, {**self.variables, **theirs})


def programs() -> Path | None:
    """Return the directory of PostgreSQL's programs, or None where its server is not installed."""
    on_path = shutil.which("postgres")  # Debian has them elsewhere
    found = [Path(on_path)] if on_path else Path("/usr/lib/postgresql").glob("*/bin/postgres")
    return max((path.resolve().parent for path in found), default=None)


def required_programs() -> Path:
    """Return what `programs` does; where there are none the test is skipped, and fails in CI."""
    found = programs()
    if found is None:
        reason = "PostgreSQL's server is not installed: apt-get install postgresql"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@contextmanager
def postgres(programs: Path) -> Iterator[Database]:
    """Run a server while the block lasts, and yield the superuser's database."""
    with tempfile.TemporaryDirectory(prefix="cf_pipeline_postgres_") as name:
        directory = Path(name)
        (directory / "password").write_text(PASSWORD)
        account = _unprivileged(directory)
        subprocess.run(
            [
                *(programs / "initdb", "--pgdata=data", "--username=postgres", "--no-sync"),
                *("--auth=scram-sha-256", "--pwfile=password", "--encoding=UTF8", "--locale=C"),
            ],
            cwd=directory,
            check=True,
            **account,
        )
        port = free_port()
        settings = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off")
        process = subprocess.Popen(
            [
                *(programs / "postgres", "-D", "data", "-p", str(port)),
                *(part for setting in settings for part in ("-c", setting)),
            ],
            cwd=directory,
            **account,
        )
        variables = {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(port),
            "PGDATABASE": "postgres",
            "PGUSER": "postgres",
            "PGPASSWORD": PASSWORD,
        }
        database = Database(programs, variables)
        try:
            _wait_until_up(database, process)
            database.query(f"CREATE ROLE {OWNER} LOGIN PASSWORD '{PASSWORD}'")
            yield database
        finally:
            process.send_signal(signal.SIGINT)  # which asks its clients to leave, too
            process.wait(timeout=30)


def _unprivileged(directory: Path) -> dict[str, Any]:
    """Return the arguments of subprocesses that may run the server, which refuses to be root's;
    the files in `directory` are theirs."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    for path in (directory, *directory.iterdir()):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _wait_until_up(database: Database, process: "subprocess.Popen[bytes]") -> None:
    ready = [str(database.programs / "pg_isready"), "--quiet"]
    for _ in range(300):
        assert process.poll() is None, "the server ended before it answered"
        variables = {**os.environ, **database.variables}
        if subprocess.run(ready, env=variables, check=False).returncode == 0:
            return
        time.sleep(0.1)
    raise TimeoutError("PostgreSQL does not answer.")
