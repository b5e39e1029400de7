"""The model that people are shown, and why it is that one."""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from cf_pipeline.artifacts import Artifact
from cf_pipeline.assets.challenger import judging
from cf_pipeline.caching import Artifacts, Metadata
from cf_pipeline.champion import Champions
from cf_pipeline.code_version import code_version
from cf_pipeline.deciding import JOBS, PROMOTE, ROLL_BACK, Decide, Decider, asked
from cf_pipeline.decisions import Decision, is_champion
from cf_pipeline.gate import (
    Challenger,
    Gate,
    findings_table,
    read_findings,
    recipe_config,
    with_history,
)
from cf_pipeline.metadata import table_of

HISTORY_ROWS = 10
SHORT = 8  # characters of an id, as Dagster shows those of runs


class ChampionConfig(dg.Config):
    """Who decides: the gate, or somebody by one of the jobs for that."""

    decide: Decide = Field(
        "by the gate",
        description="'promote' takes the latest model whatever the gate finds, in the job "
        f"{JOBS[PROMOTE]} alone; 'roll back' goes back to an earlier champion, in the job "
        f"{JOBS[ROLL_BACK]} alone.",
    )
    decision: int = Field(
        0,
        ge=0,
        description="For 'roll back': the number of the decision whose champion to go back to, as "
        "the table `history` has it; 0 for the champion before.",
    )
    reason: str = Field("", description="Why somebody decides and not the gate; it is recorded.")


@dg.asset(
    group_name="promotion",
    kinds={"pytorch"},
    io_manager_key="artifacts",
    code_version=code_version(__name__),
    deps=["challenger"],
)
def champion_model(
    context: dg.AssetExecutionContext,
    artifacts: dg.ResourceParam[Artifacts],
    gate: Gate,
    config: ChampionConfig,
    movielens_archive: Artifact,
    movies: Artifact,
    users: Artifact,
    train_test_split: Artifact,
    factor_model: Artifact,
    ranking_model: Artifact,
    evaluation_metrics: Artifact,
) -> dg.MaterializeResult[Artifact]:
    """The model that was promoted last, with all it was made from.

    The latest model replaces it only if the gate finds nothing against it, here too and not only in
    the checks of `challenger`, which a run of this asset alone would pass by. Else the champion
    stays, and the table `findings` says why. Somebody can decide otherwise by the jobs
    `promote_by_hand` and `roll_back`; every decision is recorded, as the table `history` shows.
    """
    began = time.monotonic()
    challenger = Challenger(train_test_split, factor_model, ranking_model, evaluation_metrics)
    inputs = [movielens_archive, movies, users, *challenger]
    champions = Champions(artifacts.store, context.log.info)

    def keep() -> tuple[Artifact, bool]:
        return artifacts.reuse_or_build(context, copying(inputs), inputs)

    def findings(decisions: Sequence[Decision]) -> list[dict[str, Any]]:
        judged, _ = artifacts.part(
            "challenger",
            code_version(judging.__module__),
            challenger,
            judging(challenger, champions, decisions, gate),
            recipe_config(challenger, decisions, gate),
        )
        return with_history(read_findings(judged), decisions, challenger.made_from)

    decider = Decider(context.run, champions, challenger, gate, keep, findings, context.log.warning)
    decide = asked(config.decide, context.run)
    while True:
        decisions = champions.decisions()
        if decide == "by the gate":
            verdict = decider.by_gate(decisions)
        else:
            verdict = decider.by_hand(decisions, decide, config.decision, config.reason)
        if verdict.decision is None:
            break
        artifacts.refuse_finished_run("champion_model")
        if champions.decide(verdict.decision):
            decisions = [*decisions, verdict.decision]
            break
        if decide != "by the gate":
            raise dg.Failure("Somebody else decided meanwhile: look, and launch it again.")
        context.log.info("Somebody else decided meanwhile: judging again.")
    if verdict.champion is None:
        raise verdict.failure or dg.Failure("There is no champion.")
    if decisions[-1].action == "refused" and not is_champion(decisions, challenger.made_from):
        context.log.warning(f"The champion stays. {decisions[-1].reason}")
    seconds, shown = time.monotonic() - began, told(decisions, challenger)
    return artifacts.result(context, verdict.champion, verdict.hit, seconds, shown)


def copying(inputs: Sequence[Artifact]) -> Callable[[Path], Metadata]:
    """Return what copies all files of the inputs into one folder, which depends on no other."""

    def build(directory: Path) -> Metadata:
        for artifact in inputs:
            if artifact.asset != "movielens_archive":
                for name in artifact.files:
                    shutil.copyfile(artifact.path(name), directory / name)
        origin = {name: inputs[0].metadata[name] for name in ("ratings", "licence", "citation")}
        (directory / "origin.json").write_text(json.dumps(origin), encoding="utf-8")
        judged = json.loads((directory / "evaluation_metrics.json").read_bytes())
        ranking = judged["ranking"]["ranking_model"]["all"]
        coverage = judged.get("posterior", {}).get("coverage", {})
        return {
            "rmse": judged["rmse"],
            "mae": judged["mae"],
            **({"ndcg_at_10": ranking["ndcg_at_10"]} if ranking else {}),
            **({"coverage_of_90_percent": coverage["90%"]} if coverage else {}),
        }

    return build


def told(decisions: Sequence[Decision], challenger: Challenger) -> Metadata:
    """Return what is shown of the decisions: that on the latest model, and those before it."""
    kept = is_champion(decisions, challenger.made_from)
    last = next(one for one in reversed(decisions) if not (kept and one.action == "refused"))
    history = [
        {
            "number": one.number,
            "time": f"{one.time:%Y-%m-%d %H:%M:%S} UTC",
            "action": one.action,
            "reason": one.reason,
            "champion": one.champion.key[:SHORT] if one.champion else "none",
            "run": one.run_id[:SHORT],
        }
        for one in reversed(decisions[-HISTORY_ROWS:])
    ]
    return {
        "decision": f"{last.number}: {last.action}. {last.reason}",
        "latest_model_is_champion": kept,
        **({"findings": findings_table(last.findings)} if last.findings else {}),
        "history": table_of(history),
    }
