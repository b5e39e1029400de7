"""The champion: the model that people are shown, and every decision about which one that is.

The log of decisions is the pointer to the champion: the last decision names it. A decision is added
at once or not at all, under a number that nobody else can take, so of two challengers that are
judged at the same time one is decided on first, and the other is judged again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

from cf_pipeline.store_layout import ArtifactError

if TYPE_CHECKING:
    from cf_pipeline.artifacts import Artifact, ArtifactStore
    from cf_pipeline.locks import Log

CHAMPION = "champion_model"
# The data versions of these tell one model from another.
IDENTITY = ("train_test_split", "factor_model", "ranking_model")

Action = Literal["promoted", "renewed", "refused", "promoted by hand", "rolled back"]


class Version(BaseModel):
    """A model: the `key` of its result in the artifact store, and what it was made from.

    `made_from` maps each input to its data version, the ratings included.
    """

    key: str
    made_from: Mapping[str, str]

    @property
    def identity(self) -> tuple[str, ...]:
        """What tells the model from others, however it was judged."""
        return identity(self.made_from)


class Decision(BaseModel):
    """One decision: what was done, why, and which champion there is from then on.

    `challenger` is what the model that was judged was made from, or the champion that was rolled
    back from. `findings` are those of the gate, by the settings in `gate`.
    """

    number: int
    time: datetime
    action: Action
    reason: str
    run_id: str
    champion: Version | None
    challenger: Mapping[str, str]
    findings: Sequence[Mapping[str, Any]] = ()
    gate: Mapping[str, Any] = {}


class Champions:
    """The decisions in an artifact store."""

    def __init__(self, store: ArtifactStore, log: Log) -> None:
        self.store = store
        self._records = store.records(CHAMPION, log)

    def decisions(self) -> list[Decision]:
        """Return all decisions, the first one first.

        Raises:
            ArtifactError: one was altered since it was written.
        """
        return [Decision.model_validate(entry) for entry in self._records.entries()]

    def decide(self, decision: Decision) -> bool:
        """Add the decision, and return whether its number was free."""
        return self._records.append(decision.number, decision.model_dump(mode="json"))

    def current(self) -> Artifact | None:
        """Return the champion's result; None if nothing was ever promoted.

        Raises:
            ArtifactError: it is no longer in the store.
        """
        champion = champion_of(self.decisions())
        return self.open(champion) if champion else None

    def before(self, ratings_version: str) -> Artifact | None:
        """Return the last champion that was made from other ratings than those of a data version.

        That is the one which had not seen what is new in them, promoted in the meantime or not.
        None if there is none, or if it is no longer in the store.
        """
        for decision in reversed(self.decisions()):
            champion = decision.champion
            if champion and champion.made_from["ratings"] != ratings_version:
                with suppress(ArtifactError):
                    return self.open(champion)
                return None
        return None

    def open(self, version: Version) -> Artifact:
        """Return the result of a version.

        Raises:
            ArtifactError: it is no longer in the store.
        """
        return self.store.open(CHAMPION, version.key)


def identity(made_from: Mapping[str, str]) -> tuple[str, ...]:
    """Return what tells a model from others, of the data versions of what it was made from."""
    return tuple(made_from[name] for name in IDENTITY)


def champion_of(decisions: Sequence[Decision]) -> Version | None:
    """Return the champion after these decisions."""
    return decisions[-1].champion if decisions else None


def opponent_of(decisions: Sequence[Decision], challenger: Mapping[str, str]) -> Version | None:
    """Return the champion that a challenger, by what it was made from, has to beat.

    Of the champion itself it is the one that it has replaced: what it was found to be stays so.
    """
    who = identity(challenger)
    for decision in reversed(decisions):
        champion = decision.champion
        if champion is None or champion.identity != who:
            return champion
    return None


def is_champion(decisions: Sequence[Decision], challenger: Mapping[str, str]) -> bool:
    """Whether the challenger, by what it was made from, is the champion."""
    champion = champion_of(decisions)
    return champion is not None and champion.identity == identity(challenger)


def is_barred(decisions: Sequence[Decision], challenger: Mapping[str, str]) -> bool:
    """Whether the challenger, by what it was made from, was rolled back from, and not taken again.

    Somebody saw what the gate does not: only somebody may promote it again.
    """
    who = identity(challenger)
    last = next(
        (
            decision.action
            for decision in reversed(decisions)
            if decision.action in ("rolled back", "promoted by hand")
            and identity(decision.challenger) == who
        ),
        None,
    )
    return last == "rolled back"


def next_decision(decisions: Sequence[Decision], **said: Any) -> Decision:
    """Return the decision that comes after these, by the values of its fields."""
    return Decision(number=len(decisions) + 1, time=datetime.now(UTC), **said)
