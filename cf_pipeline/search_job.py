"""The job that searches better settings for the factor model."""

import json
from importlib.util import find_spec
from operator import itemgetter
from pathlib import Path

import dagster as dg
from pydantic import Field

from cf_pipeline.artifact_metadata import shown_metadata
from cf_pipeline.caching import Artifacts, Metadata
from cf_pipeline.code_version import code_version
from cf_pipeline.devices import training_on
from cf_pipeline.metadata import table_of
from cf_pipeline.recommender.settings import FactorModelSettings
from cf_pipeline.training_part import load_training_part

OPTUNA = "Hyper-parameter search needs Optuna: pip install 'cf_pipeline[search]'."
INPUTS = ("vocabularies", "movies", "users")


class SearchConfig(FactorModelSettings, dg.Config):
    """What is searched: settings of `method`, from those given here on."""

    n_trials: int = Field(20, gt=0, description="Settings to try, the given ones first.")
    validation_fraction: float = Field(
        0.1, gt=0, lt=1, description="Share of the training part on which trials are judged."
    )
    device: str = Field("auto", description="As of factor_model.")


@dg.op
def search_hyperparameters(
    context: dg.OpExecutionContext, artifacts: dg.ResourceParam[Artifacts], config: SearchConfig
) -> None:
    """Try settings on rows carved from the latest training part; the test part is not read.

    The study and its best settings are kept in the artifact store, and shown as the asset
    `hyperparameter_search`.
    """
    if find_spec("optuna") is None:
        raise dg.Failure(OPTUNA)
    inputs = {name: artifacts.latest(context.instance, dg.AssetKey(name)) for name in INPUTS}

    def build(directory: Path) -> Metadata:
        from optuna.trial import TrialState

        from cf_pipeline.recommender.hyperparameter_search import search
        from cf_pipeline.recommender.methods import device_for

        device = device_for(config, config.device)
        with training_on(device, context.log.info):
            part = load_training_part(**inputs, device=device)
            study = search(
                part.ratings,
                part.side,
                config,
                n_trials=config.n_trials,
                validation_fraction=config.validation_fraction,
                storage=directory / "study.db",
                log=context.log.info,
            )
        given = {
            name: getattr(config, name)
            for name, default in FactorModelSettings()  # no dump of settings has memory_gib
            if getattr(config, name) != default
        }
        best = {"method": config.method, **given, **study.best_params}
        run_config = json.dumps({"ops": {"factor_model": {"config": best}}}, indent=1)
        (directory / "best_run_config.json").write_text(run_config, encoding="utf-8")
        trials = [
            {"trial": trial.number + 1, "validation_rmse": trial.value, **trial.params}
            for trial in study.get_trials(states=[TrialState.COMPLETE])
        ]
        trials.sort(key=itemgetter("validation_rmse"))
        return {
            "best_run_config": dg.MetadataValue.json(json.loads(run_config)),
            "given_rmse": study.trials[0].value,
            "best_rmse": study.best_value,
            "trials": table_of(trials),
        }

    result, hit = artifacts.part(
        "hyperparameter_search",
        code_version(__name__),
        list(inputs.values()),
        build,
        config.model_dump(),
    )
    context.log.info(f"The study is in {result.directory}.")
    context.log_event(
        dg.AssetMaterialization("hyperparameter_search", metadata=shown_metadata(result, hit))
    )


@dg.job
def hyperparameter_search() -> None:
    """Search better settings for the factor model, on rows carved from its training part."""
    search_hyperparameters()
