"""The champion: the model that people are shown, and every decision about which one that is.

The log of decisions is the pointer to the champion: the last decision names it. A decision is added
at once or not at all, under a number that nobody else can take, so of two challengers that are
judged at the same time one is decided on first, and the other is judged again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from cf_pipeline.code_version import code_version
from cf_pipeline.decisions import (
    DEFAULT_DATASET,
    Decision,
    Version,
    champion_of,
    of_dataset,
)
from cf_pipeline.records import LocalRecords
from cf_pipeline.remote import RemoteError
from cf_pipeline.store_layout import ArtifactError

if TYPE_CHECKING:
    from cf_pipeline.artifact_store import ArtifactStore
    from cf_pipeline.artifacts import Artifact
    from cf_pipeline.locks import Log

CHAMPION = "champion_model"
# What is served is fitted by these assets' code.
FITS = ("factor_model", "ranking_model")


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


def dataset_of(ratings: Artifact) -> str:
    """Return the name of the dataset that ratings, or their split, are of."""
    return str(ratings.metadata.get("dataset", DEFAULT_DATASET))


def _decision(entry: Mapping[str, Any]) -> Decision:
    try:
        return Decision.model_validate(entry)
    except ValidationError as error:
        raise ArtifactError(
            f"Decision {entry.get('number')} is of another release of cf_pipeline: {error}."
        ) from error
