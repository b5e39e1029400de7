"""The real tables, and copies of them in both layouts MovieLens 100k comes in."""

from pathlib import Path

import pandas as pd
import pytest

from cf_pipeline.recommender.movielens import read_movies, read_ratings, read_users
from cf_pipeline_tests.recommender.layouts import Tables, with_release_dates, write_wheel, write_zip


@pytest.fixture(scope="session")
def ratings(archive: Path) -> pd.DataFrame:
    """The 100,000 real ratings, in the order of u.data; not to be changed."""
    frame: pd.DataFrame = read_ratings(archive).to_pandas()
    return frame


@pytest.fixture(scope="session")
def tables(archive: Path) -> Tables:
    """The real tables, with made-up release dates if the source of the archive has none."""
    movies = with_release_dates(read_movies(archive))
    return Tables(read_ratings(archive), movies, read_users(archive))


@pytest.fixture(scope="session")
def official_zip(tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real tables, in a zip of the layout of ml-100k.zip."""
    return write_zip(tables, tmp_path_factory.mktemp("official") / "ml-100k.zip")


@pytest.fixture(scope="session")
def wheel(tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real tables, in a wheel of the layout of recbole's."""
    return write_wheel(tables, tmp_path_factory.mktemp("index") / "recbole-1.2.1-py3-none-any.whl")
