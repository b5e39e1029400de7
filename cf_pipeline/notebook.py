"""For notebooks and scripts: what the pipeline made last, found through Dagster's history."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from cf_pipeline.caching import Artifacts
from cf_pipeline.champion import Champions

if TYPE_CHECKING:
    from cf_pipeline.recommender.serving import Recommender


def load_recommender(instance: dg.DagsterInstance | None = None) -> Recommender:
    """Return the recommender of the latest `served_model` in an instance's history, verified.

    The instance is by default that of DAGSTER_HOME, or of the `dagster.yaml` in the working
    directory. `Recommender.load` takes the path of a folder instead, from anywhere.

    Raises:
        ArtifactError: nothing was materialized, the result was removed or altered since, or it is
            not of the champion any more.
        FileNotFoundError: there is no instance in DAGSTER_HOME or the working directory.
    """
    from cf_pipeline.recommender.serving import Recommender

    if instance is None:
        home = Path(os.environ.get("DAGSTER_HOME") or ".")
        if not (home / "dagster.yaml").is_file():  # Dagster would begin a history there
            raise FileNotFoundError(
                f"There is no dagster.yaml in {home.resolve()}: start in the directory where the "
                "pipeline ran, or set DAGSTER_HOME."
            )
        with dg.DagsterInstance.from_config(str(home)) as found:
            return load_recommender(found)
    artifacts = Artifacts()
    latest = artifacts.latest(instance, dg.AssetKey("served_model"))
    champions = Champions(artifacts.store, logging.getLogger(__name__).warning)
    champions.refuse_other("the latest served_model", latest.inputs["champion_model"])
    return Recommender.load(latest.verified())
