"""The champion: the model that people are shown, and every decision about which one that is.

The log of decisions is the pointer to the champion: the last decision names it. A decision is added
at once or not at all, under a number that nobody else can take, so of two challengers that are
judged at the same time one is decided on first, and the other is judged again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ValidationError

from cf_pipeline.code_version import code_version
from cf_pipeline.records import LocalRecords
from cf_pipeline.remote import RemoteError
from cf_pipeline.store_layout import ArtifactError

if TYPE_CHECKING:
    from cf_pipeline.artifact_store import ArtifactStore
    from cf_pipeline.artifacts import Artifact
    from cf_pipeline.locks import Log

CHAMPION = "champion_model"
# The data versions of these tell one model from another.
IDENTITY = ("train_test_split", "factor_model", "ranking_model")

PROMOTED = ("promoted", "promoted by hand")
# What is served is fitted by these assets' code.
FITS = ("factor_model", "ranking_model")
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


class Champions:
    """The decisions in an artifact store."""

    def __init__(self, store: ArtifactStore, log: Log) -> None:
        self.store = store
        self._records = store.records(CHAMPION, log)
        self._here = LocalRecords(store.root, CHAMPION, log)

    def decisions(self) -> list[Decision]:
        """Return all decisions, the first one first.

        Raises:
            ArtifactError: one was altered since it was written, or is not there, or the store was
                given a remote which does not have its decisions.
        """
        remedy = (
            f"Bring back what it was from a backup; or take all records of {CHAMPION} away, and "
            "the next model that passes the gate is the first champion."
        )
        try:
            found = [_decision(entry) for entry in self._records.entries()]
        except RemoteError:
            raise
        except ArtifactError as error:
            raise ArtifactError(f"{error} {remedy}") from error
        numbers = [decision.number for decision in found]
        if numbers != list(range(1, len(found) + 1)):
            raise ArtifactError(f"Decisions are missing: there are {numbers}. {remedy}")
        if not found and self.store.remote and self._here.numbers():
            raise ArtifactError(
                f"{self.store.remote} has no decisions, and {self._here.place(1).parent} has: copy "
                f"the records there to {self._records.place(1)} and on, or people would be shown "
                "the next model that comes, whatever the champion was."
            )
        return found

    def decide(self, decision: Decision) -> bool:
        """Add the decision, and return whether its number was free."""
        return self._records.append(decision.number, decision.model_dump(mode="json"))

    def champion(self) -> Version | None:
        """Return the champion, by the last decision alone; None for none.

        Raises:
            ArtifactError: it was altered since it was written.
        """
        numbers = self._records.numbers()
        if not numbers:
            return champion_of(self.decisions())  # which says if they are elsewhere
        return _decision(self._records.read(numbers[-1])).champion

    def refuse_other(self, shown: str, version: str) -> None:
        """Refuse to show people what was made from a champion that is not, or no longer, it.

        `version` is the data version of the champion that `shown` was made from, or would be.

        Raises:
            ArtifactError: it is another one's.
        """
        champion = self.champion()
        if champion is None or champion.data_version != version:
            raise ArtifactError(
                f"{shown} is not of the champion, which is "
                f"{champion.key if champion else 'none'}: it was decided so meanwhile. Materialize "
                f"{CHAMPION} and what is made from it, with `--select '{CHAMPION}*'`."
            )

    def served(self, version: Version, log: Log) -> Artifact | None:
        """Return what was served of a champion before, fitted by whatever code; None for none."""
        return self.store.made_from("served_model", {CHAMPION: version.data_version}, log)

    def before(self, ratings_version: str, dataset: str) -> Artifact | None:
        """Return a dataset's last champion made from other ratings than those of a data version.

        That is the one which had not seen what is new in them, promoted in the meantime or not.
        None if there is none, or if it is no longer in the store.

        Raises:
            ArtifactError: the decisions or the remote cannot be read.
        """
        for decision in reversed(of_dataset(self.decisions(), dataset)):
            champion = decision.champion
            if champion and champion.made_from["ratings"] != ratings_version:
                try:
                    return self.open(champion)
                except RemoteError:
                    raise
                except ArtifactError:
                    return None
        return None

    def open(self, version: Version) -> Artifact:
        """Return the result of a version.

        Raises:
            ArtifactError: it is no longer in the store.
        """
        return self.store.open(CHAMPION, version.key)


def fits_of_today() -> dict[str, str]:
    """Return the code version of each fit, as `Version.made_by` has them."""
    return {name: code_version(f"cf_pipeline.assets.{name}") for name in FITS}


def identity(made_from: Mapping[str, str]) -> tuple[str, ...]:
    """Return what tells a model from others, of the data versions of what it was made from."""
    return tuple(made_from[name] for name in IDENTITY)


def dataset_of(ratings: Artifact) -> str:
    """Return the name of the dataset that ratings, or their split, are of."""
    return str(ratings.metadata.get("dataset", DEFAULT_DATASET))


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


def _decision(entry: Mapping[str, Any]) -> Decision:
    try:
        return Decision.model_validate(entry)
    except ValidationError as error:
        raise ArtifactError(
            f"Decision {entry.get('number')} is of another release of cf_pipeline: {error}."
        ) from error
