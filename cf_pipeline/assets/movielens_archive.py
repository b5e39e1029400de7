"""The ratings as received: a release of MovieLens, verified, or somebody's own tables."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import dagster as dg
from pydantic import Field

from cf_pipeline.artifacts import Artifact
from cf_pipeline.caching import Artifacts, Metadata
from cf_pipeline.code_version import code_version
from cf_pipeline.deployment import DEPLOYMENT
from cf_pipeline.recommender.custom_settings import CustomMoviesSettings, CustomRatingsSettings
from cf_pipeline.recommender.datasets import CUSTOM, SYNTHETIC, Name
from cf_pipeline.recommender.synthetic_settings import SyntheticSettings

if TYPE_CHECKING:
    from cf_pipeline.recommender.datasets import Dataset
    from cf_pipeline.recommender.verification import ReceivedArchive

# Seconds before each new try of what may have passed by then.
WAITS = (5, 10, 20)


class CustomMovies(CustomMoviesSettings, dg.Config):
    """What is rated: where its table is, and which of its columns are what."""


class CustomRatings(CustomRatingsSettings, dg.Config):
    """Somebody's own ratings: where they are, and which of their columns are what."""

    movies: CustomMovies | None = Field(
        None, description=CustomRatingsSettings.model_fields["movies"].description
    )


class SyntheticRatings(SyntheticSettings, dg.Config):
    """Ratings that are drawn, of which the truth is known."""


class MovielensArchiveConfig(dg.Config):
    """Which ratings they are, where they come from, and how long to try."""

    dataset: Name = Field(
        DEPLOYMENT.archive.get("dataset", "ml-100k"),
        description="A release of MovieLens, by the name of its file at files.grouplens.org, of "
        "which 'ml-latest-small' changes at times; 'custom': ratings of your own, as `custom` "
        "says; 'synthetic': ratings that are drawn, as `synthetic` says.",
    )
    sources: list[str] = Field(
        DEPLOYMENT.sources,
        description="Of MovieLens. Sources in the order they are tried: 'official' "
        "(files.grouplens.org), 'package_index' (of ml-100k only: the copy in the recbole wheel, "
        "through pip), the path of a local zip, wheel or folder, or 'auto' (official, then "
        "package_index). No addresses: a mirror's goes into the environment variable "
        "CF_PIPELINE_MOVIELENS_URL. Default: the path in CF_PIPELINE_RATINGS, or 'auto'.",
    )
    custom: CustomRatings | None = Field(
        None,
        description="Of 'custom'. Default: what the file in CF_PIPELINE_RATINGS says.",
    )
    synthetic: SyntheticRatings = Field(
        SyntheticRatings.model_validate(DEPLOYMENT.archive.get("synthetic") or {}),
        description="Of 'synthetic': how many, and the seed.",
    )
    timeout: float = Field(
        60.0,
        gt=0,
        le=86_400,
        description="Of MovieLens. Seconds that one source may take in all; ml-25m has 262 MB.",
    )
    retries: int = Field(
        2, ge=0, description="Of MovieLens. How often a failed download is tried again."
    )
    revision: str = Field(
        "",
        description="What the source says of its revision, as the sensor new_ratings found it: for "
        "another the archive is received anew.",
    )

    def own_tables(self) -> CustomRatings:
        """Return what is said of somebody's own tables.

        Raises:
            dagster.Failure: nothing is.
        """
        said = DEPLOYMENT.archive.get("custom")
        if self.custom is None and said is None:
            raise dg.Failure(
                "The dataset is 'custom', and nothing says where the ratings are: put their path "
                "and columns into the config under `custom`.",
                allow_retries=False,
            )
        return self.custom or CustomRatings.model_validate(said)


class Fetching(NamedTuple):
    """How an archive is made: what decides the result, and what puts it into a directory."""

    recipe: dict[str, object]
    build: Callable[[Path], Metadata]


@dg.asset(
    group_name="data",
    kinds={"file"},
    io_manager_key="artifacts",
    code_version=code_version(__name__),
)
def movielens_archive(
    context: dg.AssetExecutionContext,
    artifacts: dg.ResourceParam[Artifacts],
    config: MovielensArchiveConfig,
) -> dg.MaterializeResult[Artifact]:
    """The ratings as received: by default MovieLens 100k, verified; or your own, or drawn ones."""
    match config.dataset:
        case "custom":
            fetching = copied_tables(context, config.own_tables())
        case "synthetic":
            fetching = drawn_ratings(config.synthetic)
        case _:
            fetching = release_of_movielens(context, config)
    # How long and how often to try decides whether there is a result, not what it is; nor does the
    # path of a local copy.
    recipe = {"dataset": config.dataset, **fetching.recipe}
    if config.revision:
        recipe["revision"] = config.revision
    return artifacts.materialize(context, fetching.build, config=recipe)


def release_of_movielens(
    context: dg.AssetExecutionContext, config: MovielensArchiveConfig
) -> Fetching:
    """Fetch a release from the first source that gives it."""
    from cf_pipeline.recommender import sources
    from cf_pipeline.recommender.datasets import CITATION, release

    dataset = release(config.dataset)
    fingerprints = sources.source_fingerprints(config.sources, dataset.name)

    def build(directory: Path) -> Metadata:
        try:
            received = sources.fetch_archive(
                directory,
                config.sources,
                timeout=config.timeout,
                retries=config.retries,
                log=context.log.info,
                dataset=dataset.name,
            )
            _refuse_other(received, fingerprints[received.source], dataset)
        except sources.ArchiveUnavailableError as error:
            if not error.transient or context.retry_number == len(WAITS):
                raise
            raise _once_more(context) from error
        known = received.matches_release
        return {
            "dataset": dataset.name,
            "source": received.source,
            "bytes": received.bytes,
            "sha256": received.sha256,
            "matches_release": received.matches_release,
            "checked_by": received.checked_by,
            "ratings": f"{'' if known else 'not known to be '}{dataset.title} as it was released",
            "licence": dataset.licence,
            "citation": CITATION,
        }

    return Fetching({"fingerprints": list(fingerprints.values())}, build)


def copied_tables(context: dg.AssetExecutionContext, settings: CustomRatings) -> Fetching:
    """Copy somebody's own tables."""
    from cf_pipeline.recommender import custom_archive

    fingerprints = custom_archive.fingerprints(settings)

    def build(directory: Path) -> Metadata:
        received = custom_archive.fetch_custom(directory, settings, context.log.info)
        if custom_archive.fingerprints(settings) != fingerprints:
            context.log.warning(f"{settings.path} changed while it was copied.")
            if context.retry_number == len(WAITS):
                raise dg.Failure(
                    f"{settings.path} went on changing while it was copied: put files in place "
                    "whole, by renaming them."
                )
            raise _once_more(context)
        return {
            "dataset": CUSTOM,
            "source": received.source,
            "bytes": received.bytes,
            "sha256": received.sha256,
            "files": ", ".join(received.files[:20]),
            "ratings": f"those at {settings.path}",
            "licence": "what whoever gave the ratings says",
            "citation": "none",
        }

    return Fetching(
        {"fingerprints": fingerprints, "settings": custom_archive.reading(settings)}, build
    )


def drawn_ratings(settings: SyntheticRatings) -> Fetching:
    """Say which ratings are to be drawn; `ratings` draws them."""
    from cf_pipeline.recommender.datasets import describe
    from cf_pipeline.recommender.downloads import sha256

    def build(directory: Path) -> Metadata:
        path = describe(directory, SYNTHETIC, settings=settings.model_dump())
        return {
            "dataset": SYNTHETIC,
            "source": "drawn with a seed",
            "bytes": path.stat().st_size,
            "sha256": sha256(path),
            "ratings": f"{settings.n_ratings:,}, drawn with seed {settings.seed}",
            "licence": "none is needed",
            "citation": "none",
        }

    return Fetching({"settings": settings.model_dump()}, build)


def _once_more(context: dg.AssetExecutionContext) -> dg.RetryRequested:
    return dg.RetryRequested(len(WAITS), WAITS[context.retry_number])


def _refuse_other(received: "ReceivedArchive", fingerprint: str, dataset: "Dataset") -> None:
    """Raise ArchiveUnavailableError if a local source has changed since its fingerprint was taken.

    Its content would be found again as what was there before.
    """
    from cf_pipeline.recommender.sources import ArchiveUnavailableError

    if fingerprint not in (received.source, received.sha256):
        before = "nothing sound was there" if fingerprint == "missing" else fingerprint
        cause = (
            f"it changed while it was received: {before} at first, then SHA-256 "
            f"{received.sha256}. Put files in place whole, by renaming them."
        )
        raise ArchiveUnavailableError({received.source: cause}, dataset, transient=True)
