"""Asset checks: what must hold before anything downstream is made."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from cf_pipeline.artifacts import Artifact
from cf_pipeline.assets.recommendations import SEQUEL_RANK
from cf_pipeline.caching import Artifacts, Metadata
from cf_pipeline.champion import Champions
from cf_pipeline.code_version import code_version
from cf_pipeline.compute import Compute, nodes_of
from cf_pipeline.deciding import JOBS, PROMOTE
from cf_pipeline.decisions import is_champion
from cf_pipeline.gate import read_findings, with_history
from cf_pipeline.metadata import table_of
from cf_pipeline.recommender.settings import GATE_RULES
from cf_pipeline.recommender.validation import RATINGS_CHECKS, BadRatingsError


@dg.asset_check(
    asset="similar_movies",
    description="The Empire Strikes Back is among the 20 movies most like Star Wars.",
)
def a_sequel_is_similar(similar_movies: Artifact) -> dg.AssetCheckResult:
    """Look at an example that everybody can judge; ratings without these movies pass."""
    rank = similar_movies.metadata.get(SEQUEL_RANK)
    return dg.AssetCheckResult(
        passed=rank != 0,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"rank": "these movies are not among the ratings" if rank is None else rank},
    )


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(name, asset="ratings", description=rule, blocking=True)
        for name, rule in RATINGS_CHECKS.items()
    ],
    ins={"ratings": dg.AssetIn("ratings")},
)
def ratings_checks(
    context: dg.AssetCheckExecutionContext,
    ratings: Artifact,
    artifacts: dg.ResourceParam[Artifacts],
    compute: Compute,
) -> Iterator[dg.AssetCheckResult]:
    """Hold the ratings to every rule, and say how many break it and which.

    Each rule blocks what is downstream in the same run; `train_test_split` applies them again, for
    runs of its own.
    """

    def verify(directory: Path) -> Metadata:
        from cf_pipeline.recommender.rating_checks import check_ratings_files
        from cf_pipeline.recommender.table_files import RATINGS, table_files

        executor = compute.start(context)
        check_ratings_files(table_files(ratings.verified(), RATINGS), executor)
        (directory / "passed").touch()
        return nodes_of(executor)  # or the next result would have them

    faults = {}
    try:
        artifacts.part("ratings_checks", code_version(__name__), [ratings], verify)
    except BadRatingsError as error:
        context.log.error(str(error))
        faults = error.faults
    for name in RATINGS_CHECKS:
        fault = faults.get(name)
        metadata: dict[str, dg.MetadataValue | int] = {"faults": fault.count if fault else 0}
        if fault and fault.examples:
            metadata["examples"] = table_of(fault.examples)
        yield dg.AssetCheckResult(
            check_name=name, asset_key="ratings", passed=fault is None, metadata=metadata
        )


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(name, asset="challenger", description=rule, blocking=True)
        for name, rule in GATE_RULES.items()
    ],
    ins={"challenger": dg.AssetIn("challenger")},
)
def gate_checks(
    context: dg.AssetCheckExecutionContext,
    challenger: Artifact,
    artifacts: dg.ResourceParam[Artifacts],
) -> Iterator[dg.AssetCheckResult]:
    """Show what the gate found, a rule a check, and block what is downstream in the same run.

    The champion passes by being it: somebody may have promoted it by hand. `champion_model` judges
    again, for runs of its own.
    """
    decisions = Champions(artifacts.store, context.log.info).decisions()
    champion = is_champion(decisions, challenger.inputs)
    found = {
        finding["rule"]: finding
        for finding in with_history(read_findings(challenger), decisions, challenger.inputs)
    }
    against = {} if champion else {n: one["why"] for n, one in found.items() if not one["passed"]}
    for name, why in against.items():
        context.log.error(f"{name}: {why}")
    if against:
        context.log.error(
            f"The gate keeps the champion, if there is one. To have this model promoted all the "
            f"same, launch the job {JOBS[PROMOTE]} with a reason."
        )
    for name in GATE_RULES:
        finding = found.get(name)
        metadata = {"why": finding["why"] if finding else "There is no champion to compare with."}
        if champion:
            metadata["champion"] = "This model is the champion."
        yield dg.AssetCheckResult(
            check_name=name, asset_key="challenger", passed=name not in against, metadata=metadata
        )
