"""Who becomes the champion: what the gate found, or what somebody decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg

from cf_pipeline.champion import Champions, fits_of_today
from cf_pipeline.decisions import (
    Action,
    Decision,
    Version,
    champion_of,
    is_champion,
    lineage,
    next_decision,
    of_dataset,
)
from cf_pipeline.gate import Challenger, Gate, findings_table
from cf_pipeline.recommender.settings import GateSettings
from cf_pipeline.remote import RemoteError
from cf_pipeline.store_layout import ArtifactError

if TYPE_CHECKING:
    from cf_pipeline.artifacts import Artifact
    from cf_pipeline.locks import Log

Decide = Literal["by the gate", "promote", "roll back"]
PROMOTE: Decide = "promote"
ROLL_BACK: Decide = "roll back"
# Only these jobs decide by hand.
JOBS: Mapping[Decide, str] = {PROMOTE: "promote_by_hand", ROLL_BACK: "roll_back"}


def asked(decide: Decide, run: dg.DagsterRun) -> Decide:
    """Return what a run asks for: what its config says, else what its job is for.

    The job's own config says so too, but a run's takes its place as a whole.
    """
    by_job = {job: what for what, job in JOBS.items()}
    return by_job.get(run.job_name, decide) if decide == "by the gate" else decide


@dataclass(frozen=True)
class Verdict:
    """A decision to be added to the log, if it is news, and the champion that there is by it.

    `failure` is why there is none.
    """

    decision: Decision | None
    champion: Artifact | None
    hit: bool = True
    failure: dg.Failure | None = None


@dataclass(frozen=True)
class Decider:
    """What it takes to decide: `keep` keeps the challenger's result, `findings` are the gate's."""

    run: dg.DagsterRun
    champions: Champions
    challenger: Challenger
    gate: Gate
    keep: Callable[[], tuple[Artifact, bool]]
    findings: Callable[[Sequence[Decision]], list[dict[str, Any]]]
    log: Log

    def by_gate(self, decisions: Sequence[Decision]) -> Verdict:
        """Promote the challenger if the gate finds nothing against it; else the champion stays."""
        if is_champion(decisions, self.challenger.made_from):
            return self._renew(decisions)
        found = self.findings(decisions)
        against = [str(one["rule"]).replace("_", " ") for one in found if not one["passed"]]
        loose = self.gate.settings != GateSettings()
        by = ", by other settings than its own" if loose else ""
        if against:
            return self._refuse(decisions, f"Not so: {', '.join(against)}{by}.", found)
        return self._promote(decisions, "promoted", f"It passed the gate{by}.", found)

    def by_hand(
        self, decisions: Sequence[Decision], decide: Decide, number: int, reason: str
    ) -> Verdict:
        """Promote the challenger whatever the gate finds, or go back to an earlier champion.

        That is the one after decision `number`, or the one before where it is 0.

        Raises:
            dagster.Failure: this is another job than the one for it, there is no reason, or no such
                champion.
        """
        if self.run.job_name != JOBS[decide]:
            raise _failure(f"Only the job {JOBS[decide]} can {decide}: launch that.")
        if not reason.strip():
            raise _failure(
                f"{JOBS[decide]} needs a reason, which is recorded: give it in the run config, as "
                "`ops: {champion_model: {config: {reason: ...}}}`."
            )
        if decide == ROLL_BACK:
            return self._roll_back(decisions, number, reason.strip())
        if is_champion(decisions, self.challenger.made_from):
            return self._renew(decisions)
        try:
            found = self.findings(decisions)
        except RemoteError:
            raise
        except Exception as error:  # it is for the case that the gate cannot judge, too
            found = [{"rule": "the gate", "passed": False, "why": str(error), "figures": {}}]
        return self._promote(decisions, "promoted by hand", reason.strip(), found)

    def _promote(
        self,
        decisions: Sequence[Decision],
        action: Action,
        reason: str,
        found: Sequence[Mapping[str, Any]] = (),
    ) -> Verdict:
        version, artifact, hit = self._kept()
        self._refuse_unservable(version)
        decision = self._decision(decisions, action, reason, version, found)
        return Verdict(decision, artifact, hit)

    def _renew(self, decisions: Sequence[Decision]) -> Verdict:
        """Keep the champion, whose result or code is another now if it was made or judged anew."""
        version, artifact, hit = self._kept()
        if version == champion_of(decisions):
            return Verdict(None, artifact, hit)
        why = "It came out the same when it was made anew."
        return Verdict(self._decision(decisions, "renewed", why, version, ()), artifact, hit)

    def _kept(self) -> tuple[Version, Artifact, bool]:
        artifact, hit = self.keep()
        version = Version(
            key=artifact.key,
            data_version=artifact.data_version,
            made_from=self.challenger.made_from,
            made_by=self.challenger.made_by,
            dataset=self.challenger.dataset,
        )
        return version, artifact, hit

    def _refuse_unservable(self, version: Version) -> None:
        """Raise Failure where nothing could be served of a champion: its code is not there."""
        if version.made_by != fits_of_today() and not self.champions.served(version, self.log):
            raise _failure(
                "The code of the fits is another than the one by which this model was made, and "
                "what was served of it before is not in this store. Materialize everything, so "
                "that a model by today's code is judged, or bring the earlier code back."
            )

    def _refuse(
        self, decisions: Sequence[Decision], reason: str, found: Sequence[Mapping[str, Any]]
    ) -> Verdict:
        champion = champion_of(decisions)
        refusal = self._decision(decisions, "refused", reason, champion, found)
        said_before = bool(decisions) and _said(refusal) == _said(decisions[-1])
        decision = None if said_before else refusal
        if champion:
            return Verdict(decision, self._open(champion))
        failure = _failure(
            f"The first model is refused, and there is no champion to keep. {reason} The table "
            f"`findings` says why; the job {JOBS[PROMOTE]} takes it nevertheless.",
            {"findings": findings_table(found)},
        )
        return Verdict(decision, None, failure=failure)

    def _roll_back(self, decisions: Sequence[Decision], number: int, reason: str) -> Verdict:
        champion = champion_of(decisions)
        line = lineage(of_dataset(decisions, champion.dataset) if champion else [])
        again = {self.run.run_id, self.run.parent_run_id, self.run.root_run_id}
        if decisions and decisions[-1].action == "rolled back" and decisions[-1].run_id in again:
            return Verdict(None, self._open(line[-1]))  # a run that goes on where it failed
        if number > len(decisions):
            raise _failure(f"There is no decision {number}: there are {len(decisions)}.")
        before = line[-2] if len(line) > 1 else None
        version = decisions[number - 1].champion if number else before
        if version is None or version.identity == line[-1].identity:
            raise _failure(
                "There is no other champion there to go back to: choose a decision of `history`."
            )
        self._refuse_unservable(version)
        decision = next_decision(
            decisions,
            action="rolled back",
            reason=reason,
            run_id=self.run.run_id,
            champion=version,
            challenger=line[-1].made_from,
        )
        return Verdict(decision, self._open(version))

    def _open(self, version: Version) -> Artifact:
        try:
            artifact = self.champions.open(version)
            artifact.verified()
        except ArtifactError as error:
            raise _failure(
                f"{error} Go back to a champion that is still there, or promote a model by hand."
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
            run_id=self.run.run_id,
            champion=champion,
            challenger=self.challenger.made_from,
            findings=list(found),
            gate=self.gate.settings.model_dump(),
        )


def _said(decision: Decision) -> dict[str, Any]:
    """Return what a decision says, but when and by which run."""
    return decision.model_dump(mode="json", exclude={"number", "time", "run_id"})


def _failure(
    description: str, metadata: Mapping[str, dg.MetadataValue] | None = None
) -> dg.Failure:
    return dg.Failure(description, metadata, allow_retries=False)
