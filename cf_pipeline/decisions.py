"""Decisions on which model people are shown, and what follows from a row of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel

# The data versions of these tell one model from another.
IDENTITY = ("train_test_split", "factor_model", "ranking_model")

PROMOTED = ("promoted", "promoted by hand")
DEFAULT_DATASET = "ml-100k"

Action = Literal["promoted", "renewed", "refused", "promoted by hand", "rolled back"]


class Version(BaseModel):
    """A model: the `key` and `data_version` of its result, what it was made from, and by what.

    `made_from` maps each input to its data version, the ratings included; `made_by` maps each model
    that was fitted to the code version of its fit. `dataset` is the name of that of the ratings.
    """

    key: str
    data_version: str
    made_from: Mapping[str, str]
    made_by: Mapping[str, str]
    dataset: str = DEFAULT_DATASET  # of those that were recorded before there were others

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


def identity(made_from: Mapping[str, str]) -> tuple[str, ...]:
    """Return what tells a model from others, of the data versions of what it was made from."""
    return tuple(made_from[name] for name in IDENTITY)


def champion_of(decisions: Sequence[Decision]) -> Version | None:
    """Return the champion after these decisions."""
    return decisions[-1].champion if decisions else None


def lineage(decisions: Sequence[Decision]) -> list[Version]:
    """Return the champion, last, and before it those that one can go back to, one by one.

    Whoever goes back leaves out what came after: going back twice leads further back, not forth.
    """
    line: list[Version] = []
    for champion in filter(None, (decision.champion for decision in decisions)):
        known = [version.identity for version in line]
        if champion.identity in known:
            del line[known.index(champion.identity) :]
        line.append(champion)
    return line


def of_dataset(decisions: Sequence[Decision], dataset: str) -> list[Decision]:
    """Return the decisions after which the champion is one of `dataset`.

    Models of two datasets cannot be compared, so each has its own line of champions; people are
    shown whichever was decided on last.
    """
    return [one for one in decisions if one.champion and one.champion.dataset == dataset]


def opponent_of(
    decisions: Sequence[Decision], challenger: Mapping[str, str], dataset: str
) -> Version | None:
    """Return the champion of its dataset that a challenger, by what it was made from, has to beat.

    Of that champion itself it is the one that it replaced when it was promoted: what was found then
    stays so.
    """
    own = of_dataset(decisions, dataset)
    if not is_champion(own, challenger):
        return champion_of(own)
    is_it = [
        one.champion is not None and one.champion.identity == identity(challenger) for one in own
    ]
    promoted = [
        place
        for place, decision in enumerate(own)
        # Promoted again after another dataset's champion it replaced nobody of its own.
        if decision.action in PROMOTED and is_it[place] and not (place and is_it[place - 1])
    ]
    return champion_of(own[: promoted[-1]])


def is_champion(decisions: Sequence[Decision], challenger: Mapping[str, str]) -> bool:
    """Whether the challenger, by what it was made from, is the champion."""
    champion = champion_of(decisions)
    return champion is not None and champion.identity == identity(challenger)


def is_barred(decisions: Sequence[Decision], challenger: Mapping[str, str]) -> bool:
    """Whether the challenger, by what it was made from, was rolled back from, and not taken again.

    Somebody saw what the gate does not: only somebody may take it again.
    """
    barred: set[tuple[str, ...]] = set()
    for decision in decisions:
        if decision.action == "rolled back":
            barred.add(identity(decision.challenger))
        if decision.champion and decision.action != "refused":
            barred.discard(decision.champion.identity)
    return identity(challenger) in barred


def next_decision(decisions: Sequence[Decision], **said: Any) -> Decision:
    """Return the decision that comes after these, by the values of its fields."""
    return Decision(number=len(decisions) + 1, time=datetime.now(UTC), **said)
