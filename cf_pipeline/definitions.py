"""The one list of what Dagster sees."""

import dagster as dg

from cf_pipeline.assets.challenger import challenger
from cf_pipeline.assets.champion_model import champion_model
from cf_pipeline.assets.cross_validation import cross_validation
from cf_pipeline.assets.evaluation_metrics import evaluation_metrics
from cf_pipeline.assets.factor_model import factor_model
from cf_pipeline.assets.model_card import model_card
from cf_pipeline.assets.movielens_archive import movielens_archive
from cf_pipeline.assets.ranking_model import ranking_model
from cf_pipeline.assets.rating_drift import rating_drift
from cf_pipeline.assets.ratings import movies, ratings, users
from cf_pipeline.assets.recommendations import recommendations, similar_movies
from cf_pipeline.assets.served_model import served_model
from cf_pipeline.assets.train_test_split import train_test_split
from cf_pipeline.assets.vocabularies import vocabularies
from cf_pipeline.automation import automated, changes
from cf_pipeline.caching import Artifacts
from cf_pipeline.checks import a_sequel_is_similar, gate_checks, ratings_checks
from cf_pipeline.compute import Compute
from cf_pipeline.deployment import DEPLOYMENT
from cf_pipeline.drift_checks import drift_checks, ratings_are_recent
from cf_pipeline.gate import Gate
from cf_pipeline.notifications import canceled_runs, failed_runs, notifier
from cf_pipeline.presentation import presented
from cf_pipeline.promotion_jobs import promote_by_hand, roll_back
from cf_pipeline.retraining import new_ratings, retraining, retraining_schedule
from cf_pipeline.search_job import hyperparameter_search
from cf_pipeline.upkeep_job import dead_runs, store_upkeep, store_upkeep_schedule

defs = dg.Definitions(
    assets=presented(
        automated(
            [
                movielens_archive,
                ratings,
                movies,
                users,
                rating_drift,
                train_test_split,
                vocabularies,
                factor_model,
                ranking_model,
                evaluation_metrics,
                challenger,
                champion_model,
                served_model,
                recommendations,
                similar_movies,
                model_card,
                cross_validation,
            ]
        )
    ),
    asset_checks=[
        ratings_checks,
        drift_checks,
        gate_checks,
        a_sequel_is_similar,
        *([ratings_are_recent] if DEPLOYMENT.ratings else []),  # the published ones are of 1998
    ],
    jobs=[retraining, promote_by_hand, roll_back, hyperparameter_search, store_upkeep],
    schedules=[retraining_schedule, store_upkeep_schedule],
    sensors=[new_ratings, changes, failed_runs, canceled_runs, dead_runs],
    resources={
        "artifacts": Artifacts(),
        "compute": Compute(),
        "gate": Gate(),
        "notifier": notifier,
    },
    # A process for every step would cost more than most steps do, its orphan would go on after its
    # run is killed, and the lock that says that a run is in progress would be one step's.
    executor=dg.in_process_executor,
)
