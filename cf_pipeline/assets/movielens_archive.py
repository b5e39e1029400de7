"""The verified download of a release of MovieLens."""

from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from cf_pipeline.artifacts import Artifact
from cf_pipeline.caching import Artifacts, Metadata
from cf_pipeline.code_version import code_version
from cf_pipeline.deployment import DEPLOYMENT
from cf_pipeline.recommender.datasets import Name

if TYPE_CHECKING:
    from cf_pipeline.recommender.datasets import Dataset
    from cf_pipeline.recommender.verification import ReceivedArchive

# Seconds before each new try of what may have passed by then.
WAITS = (5, 10, 20)


class MovielensArchiveConfig(dg.Config):
    """Which release it is, where it comes from, and how long to try."""

    dataset: Name = Field(
        "ml-100k",
        description="The release of MovieLens, by the name of its file at files.grouplens.org. "
        "'ml-latest-small' changes at times.",
    )
    sources: list[str] = Field(
        DEPLOYMENT.sources,
        description="Sources in the order they are tried: 'official' (files.grouplens.org), "
        "'package_index' (of ml-100k only: the copy in the recbole wheel, through pip), the path "
        "of a local zip, wheel or folder, or 'auto' (official, then package_index). No addresses: "
        "a mirror's goes into the environment variable CF_PIPELINE_MOVIELENS_URL. Default: the "
        "path in CF_PIPELINE_RATINGS, or 'auto'.",
    )
    timeout: float = Field(
        60.0,
        gt=0,
        le=86_400,
        description="Seconds that one source may take in all; ml-25m has 262 MB.",
    )
    retries: int = Field(2, ge=0, description="How often a failed download is tried again.")
    revision: str = Field(
        "",
        description="What the source says of its revision, as the sensor new_ratings found it: for "
        "another the archive is received anew.",
    )


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
    """A release of MovieLens as received, verified; by default ml-100k, of 100,000 ratings."""
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
            number = context.retry_number
            if not error.transient or number == len(WAITS):
                raise
            raise dg.RetryRequested(len(WAITS), WAITS[number]) from error
        return {
            "dataset": dataset.name,
            "source": received.source,
            "bytes": received.bytes,
            "sha256": received.sha256,
            "matches_release": received.matches_release,
            "checked_by": received.checked_by,
            "licence": dataset.licence,
            "citation": CITATION,
        }

    # How long and how often to try decides whether there is a result, not what it is; nor does the
    # path of a local copy.
    recipe: dict[str, object] = {
        "dataset": dataset.name,
        "fingerprints": list(fingerprints.values()),
    }
    if config.revision:
        recipe["revision"] = config.revision
    return artifacts.materialize(context, build, config=recipe)


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
