"""What the tests share: the real archive, and working directories with a history of their own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

# Read when torch and numpy are loaded: tests run in several processes, a core for each.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from cf_pipeline_tests.browser import chromium
from cf_pipeline_tests.project import WORSE, Project
from cf_pipeline_tests.real_data import real_archive


@pytest.fixture(scope="session")
def archive() -> Path:
    """The folder of the real archive, fetched once per machine and kept outside the repository."""
    return real_archive()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, archive: Path) -> Project:
    """A project after its first run; not to be changed, only copied."""
    project = Project(tmp_path_factory.mktemp("finished") / "project", archive)
    assert set(project.cache().values()) == {"miss"}
    return project


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
def refused(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose latest model is worse than the champion; not to be changed, only copied."""
    project = finished.copy(tmp_path_factory.mktemp("refused") / "project")
    assert project.materialize(config=WORSE).returncode == 1
    return project


@pytest.fixture
def worse(refused: Project, tmp_path: Path) -> Project:
    """A project of the test's own, whose latest model is worse than the champion."""
    return refused.copy(tmp_path / "project")
