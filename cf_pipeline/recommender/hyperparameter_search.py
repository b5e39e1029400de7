"""Search for better settings of a method, judged on rows carved from the training part only."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import optuna

from cf_pipeline.recommender.methods import fit
from cf_pipeline.recommender.settings import FactorModelSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cf_pipeline.recommender.features import SideFeatures
    from cf_pipeline.recommender.minibatches import EncodedRatings


def search(
    train: EncodedRatings,
    side: SideFeatures,
    base: FactorModelSettings,
    *,
    n_trials: int,
    validation_fraction: float,
    storage: Path,
    log: Callable[[str], None],
) -> optuna.Study:
    """Return a study of `n_trials` settings of `base.method`, the first of them `base` itself.

    The trials share one carved part, whose RMSE is minimised by Optuna's TPE sampler (Bergstra et
    al. 2011), seeded by `base.seed`. `storage` is where the study is written, a SQLite file that
    Optuna's own tools read.

    Raises:
        FloatingPointError: every trial diverged.
    """
    rest, validation = train.carve(validation_fraction, base.seed)
    suggest = _gibbs if base.method == "gibbs" else _gradient_descent

    def objective(trial: optuna.Trial) -> float:
        settings = base.model_copy(update=suggest(trial, base))
        try:
            fitted = fit(rest, side, settings, validation)
        except FloatingPointError as error:
            raise optuna.TrialPruned(str(error)) from error
        rmse = cast("float", fitted.progress[-1]["validation_rmse"])
        log(f"Trial {trial.number + 1} of {n_trials}: RMSE {rmse:.4f} with {trial.params}")
        trial.set_user_attr("seconds", fitted.seconds)
        return rmse

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=base.method,
        sampler=optuna.samplers.TPESampler(seed=base.seed),
        storage=f"sqlite:///{storage}",
    )
    names = suggest(optuna.trial.FixedTrial(base.model_dump()), base)
    study.enqueue_trial({name: getattr(base, name) for name in names})
    study.optimize(objective, n_trials=n_trials)
    if not study.get_trials(states=[optuna.trial.TrialState.COMPLETE]):
        raise FloatingPointError(
            f"All {n_trials} trials diverged: start from other settings, or look at {storage}."
        )
    return study


def _gibbs(trial: optuna.trial.BaseTrial, base: FactorModelSettings) -> dict[str, object]:
    return {
        "sampled_factors": trial.suggest_int("sampled_factors", 4, 40, step=2),
        "feature_rank": trial.suggest_int("feature_rank", 16, 160, step=16),
        "burn_in": trial.suggest_int("burn_in", 1, max(1, base.sweeps // 2)),
    }


def _gradient_descent(
    trial: optuna.trial.BaseTrial, _base: FactorModelSettings
) -> dict[str, object]:
    return {
        "n_factors": trial.suggest_int("n_factors", 5, 60, step=5),
        "feature_rank": trial.suggest_int("feature_rank", 16, 160, step=16),
        "epochs": trial.suggest_int("epochs", 3, 15),
        "learning_rate": trial.suggest_float("learning_rate", 2e-3, 0.1, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 0.1, 5.0, log=True),
        "batch_size": trial.suggest_int("batch_size", 250, 4000, step=250),
    }
