"""The model that people are shown, and why it is that one."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from cf_pipeline.artifacts import Artifact
from cf_pipeline.assets.challenger import findings_table, judging
from cf_pipeline.caching import Artifacts, Metadata
from cf_pipeline.champion import (
    Action,
    Champions,
    Decision,
    Version,
    champion_of,
    is_champion,
    next_decision,
    opponent_of,
)
from cf_pipeline.code_version import code_version
from cf_pipeline.gate import Challenger, Gate, read_findings, recipe_config, with_history
from cf_pipeline.metadata import table_of
from cf_pipeline.store_layout import ArtifactError

HISTORY_ROWS = 10
SHORT = 8  # characters of an id, as Dagster shows those of runs
PROMOTE, ROLL_BACK = "promote", "roll back"
# Only these jobs decide by hand.
JOBS = {PROMOTE: "promote_by_hand", ROLL_BACK: "roll_back"}
CHECKED_ASSET = "cf_pipeline.assets.challenger"


class ChampionConfig(dg.Config):
    """Who decides: the gate, or somebody by one of the jobs for that."""

    decide: Literal["by the gate", "promote", "roll back"] = Field(
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


@dataclass(frozen=True)
class Judged:
    """A decision to be taken, if it is one, and the champion that it makes."""

    decision: Decision | None
    champion: Artifact
    hit: bool


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
            code_version(CHECKED_ASSET),
            challenger,
            judging(challenger, champions, decisions, gate),
            recipe_config(challenger, decisions, gate),
        )
        return with_history(read_findings(judged), decisions, challenger.made_from)

    court = Court(context, champions, challenger, gate, keep, findings)
    while True:
        decisions = champions.decisions()
        judged = court.judge(decisions, config)
        if judged.decision is None:
            break
        if champions.decide(judged.decision):
            decisions = [*decisions, judged.decision]
            break
        context.log.info("Somebody else decided meanwhile: judging again.")
    seconds, shown = time.monotonic() - began, told(decisions, challenger)
    return artifacts.result(context, judged.champion, judged.hit, seconds, shown)


@dataclass(frozen=True)
class Court:
    """What it takes to decide: `keep` keeps the challenger's result, `findings` are the gate's."""

    context: dg.AssetExecutionContext
    champions: Champions
    challenger: Challenger
    gate: Gate
    keep: Callable[[], tuple[Artifact, bool]]
    findings: Callable[[Sequence[Decision]], list[dict[str, Any]]]

    def judge(self, decisions: Sequence[Decision], config: ChampionConfig) -> Judged:
        """Say what is to be done after these decisions.

        Raises:
            dagster.Failure: there would be no champion, or somebody decides in another way than by
                the jobs for that, or without a reason, or for a version that there is not.
        """
        if config.decide != "by the gate":
            job, reason = JOBS[config.decide], config.reason.strip()
            if self.context.run.job_name != job:
                raise _failure(f"Only the job {job} can {config.decide}: launch that.")
            if not reason:
                raise _failure(f"{job} needs a `reason` in its config: it is recorded.")
            if config.decide == ROLL_BACK:
                return self._roll_back(decisions, config.decision, reason)
            found = self.findings(decisions)
            return self._promote(decisions, "promoted by hand", reason, found)
        if is_champion(decisions, self.challenger.made_from):
            return self._renew(decisions)
        found = self.findings(decisions)
        against = [str(one["rule"]).replace("_", " ") for one in found if not one["passed"]]
        if not against:
            return self._promote(decisions, "promoted", "It passed the gate.", found)
        return self._refuse(decisions, f"Not so: {', '.join(against)}.", found)

    def _promote(
        self,
        decisions: Sequence[Decision],
        action: Action,
        reason: str,
        found: Sequence[Mapping[str, Any]] = (),
    ) -> Judged:
        artifact, hit = self.keep()
        version = Version(key=artifact.key, made_from=self.challenger.made_from)
        decision = self._decision(decisions, action, reason, version, found)
        return Judged(decision, artifact, hit)

    def _renew(self, decisions: Sequence[Decision]) -> Judged:
        """Keep the champion, whose result is another now if it was judged anew."""
        champion = champion_of(decisions)
        judged = self._promote(decisions, "renewed", "The same model was kept or judged anew.")
        if champion is not None and judged.champion.key == champion.key:
            return Judged(None, judged.champion, judged.hit)
        return judged

    def _refuse(
        self, decisions: Sequence[Decision], reason: str, found: Sequence[Mapping[str, Any]]
    ) -> Judged:
        champion = champion_of(decisions)
        decision: Decision | None = self._decision(decisions, "refused", reason, champion, found)
        if decision and decisions and _same(decision, decisions[-1]):
            decision = None  # it was said before
        if champion is None:
            if decision:
                self.champions.decide(decision)
            raise dg.Failure(
                f"The first model is refused, and there is no champion to keep. {reason} The table "
                f"`findings` says why; the job {JOBS[PROMOTE]} takes it nevertheless.",
                metadata={"findings": findings_table(found)},
                allow_retries=False,
            )
        self.context.log.warning(f"The challenger is refused, and the champion stays. {reason}")
        return Judged(decision, self._open(champion), hit=True)

    def _roll_back(self, decisions: Sequence[Decision], number: int, reason: str) -> Judged:
        current = champion_of(decisions)
        if current is None:
            raise _failure("There is no champion to roll back from.")
        if number > len(decisions):
            raise _failure(f"There is no decision {number}: there are {len(decisions)}.")
        if number:
            version = decisions[number - 1].champion
        else:
            version = opponent_of(decisions, current.made_from)
        if version is None or version.identity == current.identity:
            raise _failure("That is the champion, or none: choose a decision of `history`.")
        artifact = self._open(version)
        decision = next_decision(
            decisions,
            action="rolled back",
            reason=reason,
            run_id=self.context.run.run_id,
            champion=version,
            challenger=dict(current.made_from),
        )
        return Judged(decision, artifact, hit=True)

    def _open(self, version: Version) -> Artifact:
        try:
            artifact = self.champions.open(version)
            artifact.verified()
        except ArtifactError as error:
            raise _failure(
                f"{error} Roll back to a champion that is still there, or promote another by hand."
            ) from error
        return artifact

    def _decision(
        self,
        decisions: Sequence[Decision],
        action: Action,
        reason: str,
        champion: Version | None,
        found: Sequence[Mapping[str, Any]],
    ) -> Decision:
        return next_decision(
            decisions,
            action=action,
            reason=reason,
            run_id=self.context.run.run_id,
            champion=champion,
            challenger=self.challenger.made_from,
            findings=list(found),
            gate=recipe_config(self.challenger, decisions, self.gate)["gate"],
        )


def copying(inputs: Sequence[Artifact]) -> Callable[[Path], Metadata]:
    """Return what copies all files of the inputs into one folder, which depends on no other."""

    def build(directory: Path) -> Metadata:
        import json

        for artifact in inputs:
            if artifact.asset != "movielens_archive":
                for name in artifact.files:
                    shutil.copyfile(artifact.path(name), directory / name)
        origin = {
            name: inputs[0].metadata[name] for name in ("source", "sha256", "matches_release")
        }
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
    """Return what is shown of the decisions: the last one, and those before it."""
    last = decisions[-1]
    kept = is_champion(decisions, challenger.made_from)
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


def _same(decision: Decision, last: Decision) -> bool:
    said = {"action", "reason", "champion", "challenger", "findings", "gate"}
    return decision.model_dump(include=said, mode="json") == last.model_dump(
        include=said, mode="json"
    )


def _failure(description: str) -> dg.Failure:
    return dg.Failure(description, allow_retries=False)
