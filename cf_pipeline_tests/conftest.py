"""What the tests share: the real archive, and a working directory with a Dagster history of its
own."""

import shutil
from pathlib import Path

import pooch
import pytest

from cf_pipeline.recommender.sources import fetch_archive
from cf_pipeline_tests.project import Project


@pytest.fixture(scope="session")
def archive() -> Path:
    """The folder of the real archive, fetched once per machine and kept outside the repository."""
    folder = Path(pooch.os_cache("cf_pipeline_tests")) / "ml-100k"
    if not folder.exists():
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        fetch_archive(partial, ["auto"], timeout=120, retries=2, log=print)
        partial.rename(folder)
    return folder


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
