"""The latest model beside the champion: what the gate finds."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from cf_pipeline.artifacts import Artifact
from cf_pipeline.caching import Artifacts, Build, Metadata
from cf_pipeline.champion import Champions
from cf_pipeline.code_version import code_version
from cf_pipeline.decisions import Decision
from cf_pipeline.gate import FINDINGS, Challenger, Gate, findings_table, judge, recipe_config
from cf_pipeline.metadata import picture

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST_COMPARED = 50  # in a picture


@dg.asset(
    group_name="promotion",
    kinds={"json"},
    io_manager_key="artifacts",
    code_version=code_version(__name__),
)
def challenger(
    context: dg.AssetExecutionContext,
    artifacts: dg.ResourceParam[Artifacts],
    gate: Gate,
    train_test_split: Artifact,
    factor_model: Artifact,
    ranking_model: Artifact,
    evaluation_metrics: Artifact,
) -> dg.MaterializeResult[Artifact]:
    """The model that may become the champion, held to every rule of the gate.

    It is compared with the champion and with simple predictors on ratings that neither has seen.
    The checks of this asset are the gate: one that fails keeps the champion where it is. Settings
    are those of the resource `gate`.
    """
    judged = Challenger(train_test_split, factor_model, ranking_model, evaluation_metrics)
    champions = Champions(artifacts.store, context.log.info)
    decisions = champions.decisions()
    return artifacts.materialize(
        context,
        judging(judged, champions, decisions, gate),
        judged,
        recipe_config(judged, decisions, gate),
    )


def judging(
    judged: Challenger, champions: Champions, decisions: "Sequence[Decision]", gate: Gate
) -> Build:
    """Return what writes the findings on a challenger, and says what they are."""

    def build(directory: Path) -> Metadata:
        from cf_pipeline.recommender import promotion_plots

        found = judge(judged, champions, decisions, gate)
        (directory / FINDINGS).write_text(json.dumps(found, indent=1), encoding="utf-8")
        figures = _figures(found)
        shown: dict[str, object] = {
            "passed": all(finding["passed"] for finding in found),
            "findings": findings_table(found),
            **figures,
        }
        earlier = [_figures(decision.findings) for decision in decisions]
        compared = [one for one in [*earlier, figures] if "champion_rmse" in one]
        if compared:
            png = promotion_plots.compared_rmse(compared[-MOST_COMPARED:])
            shown["compared_rmse_plot"] = picture(png, "compared rmse")
        return shown

    return build


def _figures(found: "Sequence[Mapping[str, Any]]") -> dict[str, float]:
    return {name: value for finding in found for name, value in finding["figures"].items()}
