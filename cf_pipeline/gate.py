"""The gate between a newly fitted model and people: what is asked of it, and what was found.

It stands twice: as checks of the asset `challenger`, which block what is downstream in their run,
and in `champion_model` itself, which no run can pass by.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import dagster as dg

from cf_pipeline.champion import CHAMPION, Champions, dataset_of
from cf_pipeline.decisions import Decision, is_barred, is_champion, opponent_of
from cf_pipeline.metadata import table_of
from cf_pipeline.recommender.settings import GateSettings
from cf_pipeline.remote import RemoteError
from cf_pipeline.store_layout import ArtifactError

if TYPE_CHECKING:
    from cf_pipeline.artifacts import Artifact
    from cf_pipeline.recommender.candidate import Candidate

FINDINGS = "findings.json"
RATING = ["user", "movie", "rating"]


# Dagster's resources are generic in what they give, which is themselves.
class Gate(GateSettings, dg.ConfigurableResource):  # type: ignore[type-arg]
    """The settings of the gate as a Dagster resource: its checks and `champion_model` share it."""

    @property
    def settings(self) -> GateSettings:
        """The settings alone."""
        return GateSettings(**{name: getattr(self, name) for name in GateSettings.model_fields})


class Challenger(NamedTuple):
    """The results that make the model that may become the champion."""

    train_test_split: Artifact
    factor_model: Artifact
    ranking_model: Artifact
    evaluation_metrics: Artifact

    @property
    def made_from(self) -> dict[str, str]:
        """The data version of each, and of the ratings."""
        versions = {artifact.asset: artifact.data_version for artifact in self}
        return {"ratings": self.train_test_split.inputs["ratings"], **versions}

    @property
    def dataset(self) -> str:
        """The name of the dataset of the ratings."""
        return dataset_of(self.train_test_split)

    @property
    def made_by(self) -> dict[str, str]:
        """The code version of each model that was fitted."""
        return {
            model.asset: model.code_version for model in (self.factor_model, self.ranking_model)
        }

    def load(self) -> Candidate:
        """Read what is judged."""
        return _candidate(
            self.train_test_split.verified(),
            self.ranking_model.verified(),
            self.evaluation_metrics.path("evaluation_metrics.json"),
            [*RATING, "timestamp"],
        )


def load_champion(champion: Artifact) -> Candidate:
    """Read the champion that a challenger is compared with."""
    folder = champion.verified()
    return _candidate(folder, folder, folder / "evaluation_metrics.json", RATING)


def judge(
    challenger: Challenger, champions: Champions, decisions: Sequence[Decision], gate: Gate
) -> list[dict[str, Any]]:
    """Return the findings of the gate on a challenger, as JSON; see `promotion.findings`."""
    from cf_pipeline.recommender.promotion import findings

    opponent = opponent_of(decisions, challenger.made_from, challenger.dataset)
    try:
        champion = load_champion(champions.open(opponent)) if opponent else None
    except RemoteError:
        raise
    except ArtifactError as error:
        if is_champion(decisions, challenger.made_from):  # which was decided on already
            return [asdict(finding) for finding in findings(challenger.load(), None, gate)]
        raise ArtifactError(
            f"The champion to compare with is lost: {error} Nothing is promoted by the gate any "
            "more: bring it back, or promote a model by hand."
        ) from error
    return [asdict(finding) for finding in findings(challenger.load(), champion, gate)]


def recipe_config(
    challenger: Challenger, decisions: Sequence[Decision], gate: Gate
) -> dict[str, Any]:
    """Return what decides the findings beside the challenger: whom it has to beat, and how."""
    opponent = opponent_of(decisions, challenger.made_from, challenger.dataset)
    return {
        CHAMPION: opponent.data_version if opponent else None,
        "gate": gate.settings.model_dump(),
    }


def with_history(
    findings: Sequence[Mapping[str, Any]],
    decisions: Sequence[Decision],
    made_from: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Return findings with what the log of decisions says of a challenger."""
    barred = is_barred(decisions, made_from)
    why = "It was rolled back from." if barred else "It was not."
    said = {"rule": "was_not_rolled_back", "passed": not barred, "why": why, "figures": {}}
    return [said, *map(dict, findings)]


def read_findings(judged: Artifact) -> list[dict[str, Any]]:
    """Return the findings that were written into a result."""
    found: list[dict[str, Any]] = json.loads(judged.path(FINDINGS).read_bytes())
    return found


def findings_table(found: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """Return findings as a table for the UI."""
    return table_of(
        [
            {"rule": str(one["rule"]).replace("_", " "), "passed": one["passed"], "why": one["why"]}
            for one in found
        ]
    )


def _candidate(splitting: Path, model: Path, evaluation: Path, columns: list[str]) -> Candidate:
    import pyarrow.parquet as pq

    from cf_pipeline.recommender.candidate import Candidate
    from cf_pipeline.recommender.rating_table import Origin
    from cf_pipeline.recommender.serving import Recommender
    from cf_pipeline.recommender.split_files import read_part
    from cf_pipeline.recommender.table_files import SPLIT, table_files

    split = table_files(splitting, SPLIT)
    return Candidate(
        read_part(split, "train", columns),
        read_part(split, "test", columns),
        Recommender.load(model),
        json.loads(evaluation.read_bytes()),
        Origin.read(pq.read_schema(split[0])),
    )
