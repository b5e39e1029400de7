"""What the tests share: the real archive, and working directories with a history of their own."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from playwright.sync_api import Browser

# Read when torch and numpy are loaded: tests run in several processes, a core for each.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from cf_pipeline_tests.browser import chromium
from cf_pipeline_tests.faults import QUICK
from cf_pipeline_tests.project import WORSE, Project
from cf_pipeline_tests.real_data import real_archive


@pytest.fixture(scope="session")
def archive() -> Path:
    """The folder of the real archive, fetched once per machine and kept outside the repository."""
    return real_archive()


Once = Callable[[str, Callable[[Path], None]], Project]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, archive: Path) -> Once:
    """Makes a project in a directory of its name, once for all processes that run these tests.

    The first of them that wants it makes it, and each has a copy.
    """
    own = tmp_path_factory.mktemp("once")
    several = "PYTEST_XDIST_WORKER" in os.environ
    shared = own.parents[1] if several else own.parent

    def copy_of(name: str, make: Callable[[Path], None]) -> Project:
        made = shared / f"{name}.made"
        with FileLock(shared / f"{name}.lock"):
            if not made.exists():
                make(shared / name)
                made.touch()
            return Project(shared / name, archive).copy(own / name)

    return copy_of


@pytest.fixture(scope="session")
def finished(once: Once, archive: Path) -> Project:
    """A project after its first run; not to be changed, only copied."""

    def make(directory: Path) -> None:
        assert set(Project(directory, archive).cache().values()) == {"miss"}

    return once("finished", make)


@pytest.fixture
def project(tmp_path: Path, finished: Project) -> Project:
    """A project of the test's own that goes on from a first run."""
    return finished.copy(tmp_path / "project")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser; tests that want one are skipped where there is none, and fail in CI."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def refused(finished: Project, once: Once) -> Project:
    """A project whose latest model is worse than the champion; not to be changed, only copied."""

    def make(directory: Path) -> None:
        assert finished.copy(directory).materialize(config=WORSE).returncode == 1

    return once("refused", make)


@pytest.fixture
def worse(refused: Project, tmp_path: Path) -> Project:
    """A project of the test's own, whose latest model is worse than the champion."""
    return refused.copy(tmp_path / "project")


@pytest.fixture(scope="session")
def quick(once: Once, archive: Path) -> Project:
    """A project after a first run by a quick model; not to be changed, only copied."""

    def make(directory: Path) -> None:
        made = Project(directory, archive).cache(config=QUICK)
        assert set(made.values()) == {"miss"}

    return once("quick", make)


@pytest.fixture
def warm(tmp_path: Path, quick: Project) -> Project:
    """A project of the test's own that goes on from a first run by a quick model."""
    return quick.copy(tmp_path / "warm")
