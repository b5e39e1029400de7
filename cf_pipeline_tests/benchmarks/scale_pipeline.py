"""The whole pipeline on synthetic ratings, as its users run it: the job `retraining`, from an empty
store to lists for every user.

Each asset's seconds are those that it says itself, of its own work; the run's are all, Dagster and
imports too, and its peak memory is that of its one process. So few sweeps leave fewer samples than
the default of 125: what those would take beyond, 4 bytes a weight and sample, is not in that.
"""

import resource
import tempfile
from pathlib import Path

from cf_pipeline_tests.benchmarks.scale_process import Figures, seconds_of
from cf_pipeline_tests.project import Config, Project

ASSETS = (
    "ratings", "movies", "users", "train_test_split", "vocabularies", "factor_model",
    "ranking_model", "evaluation_metrics", "challenger", "champion_model", "served_model",
    "recommendations", "similar_movies", "model_card",
)  # fmt: skip


def pipeline(n_ratings: int, n_sweeps: int) -> Figures:
    """Run all but the leaderboards, by `n_sweeps` of the sampler, a quarter of them burn-in."""
    config: Config = {
        "movielens_archive": {"dataset": "synthetic", "synthetic": {"n_ratings": n_ratings}},
        "factor_model": {"sweeps": n_sweeps, "burn_in": n_sweeps // 4},
    }
    with tempfile.TemporaryDirectory(prefix="cf_pipeline_") as folder:
        project, runs = Project(Path(folder, "project"), Path(folder)), []
        seconds = seconds_of(lambda: runs.append(project.execute("retraining", config)))
        if runs[0].returncode:
            raise RuntimeError(" ".join(runs[0].output.splitlines()[-20:]))
        return {
            "seconds": seconds,
            "ratings": n_ratings,
            "passes": n_sweeps,
            "peak_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10,
            "rmse": project.metadata("evaluation_metrics")["rmse"],
            "assets": {asset: project.metadata(asset)["seconds"] for asset in ASSETS},
        }
