"""The real tables, copies of them in both layouts that they come in, a mirror, and fits to them."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from cf_pipeline.recommender import gibbs, sources
from cf_pipeline.recommender.movielens import read_movies, read_ratings, read_users
from cf_pipeline.recommender.serving import Recommender
from cf_pipeline.recommender.settings import GibbsSettings
from cf_pipeline.recommender.splits import official_fold
from cf_pipeline_tests.recommender.fetches import Fetch, publish
from cf_pipeline_tests.recommender.layouts import Tables, with_release_dates, write_wheel, write_zip
from cf_pipeline_tests.recommender.mirror import Mirror, serve
from cf_pipeline_tests.recommender.recommenders import Fitted, fit_recommender
from cf_pipeline_tests.recommender.simulation import Fold, Simulated, simulate


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


@pytest.fixture
def mirror(official_zip: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A mirror whose ml-100k.zip is taken for the published one."""
    publish(official_zip, monkeypatch)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve(official_zip.read_bytes()) as mirror:
        monkeypatch.setenv(sources.URL_VARIABLE, mirror.url)
        yield mirror


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    return Fetch(tmp_path / "archive")


@pytest.fixture(scope="session")
def u1(ratings: pd.DataFrame, tables: Tables) -> Fold:
    """The official fold u1 of the real ratings; not to be changed."""
    return Fold.of(ratings, official_fold(ratings, "u1"), tables)


@pytest.fixture(scope="session")
def sampled(u1: Fold) -> gibbs.Sampled:
    """The posterior of the default fit to u1's training part."""
    return gibbs.fit(u1.train, u1.side, GibbsSettings())


@pytest.fixture(scope="session")
def fitted(ratings: pd.DataFrame, tables: Tables) -> Fitted:
    """A recommender of the real ratings, from a quick fit to u1's training part."""
    return fit_recommender(ratings, official_fold(ratings, "u1"), tables)


@pytest.fixture(scope="session")
def recommender(fitted: Fitted) -> Recommender:
    return fitted.recommender


@pytest.fixture(scope="session", params=["gaussian", "ordinal"])
def simulated(request: pytest.FixtureRequest) -> tuple[Simulated, gibbs.Sampled]:
    """Ratings drawn from the model with either likelihood, and the fit to their training part."""
    truth = simulate(ordinal=request.param == "ordinal")
    settings = GibbsSettings(
        likelihood=request.param, sampled_factors=3, feature_rank=8, sweeps=160, burn_in=40
    )
    return truth, gibbs.fit(truth.fold.train, truth.fold.side, settings)
