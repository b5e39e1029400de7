"""The sampler on a Ray cluster beside the same in one process, and beside Spark's ALS.

Synthetic ratings, of which the noise floor is known, and a random hundredth is held out:

- settings: Spark's, and how many sweeps ours takes to be as good, are chosen on rows carved from
  the training part. Of Spark's settings that are about as good as its best, the fastest counts;
- sweeps: the sampler in processes of its own (`distributed_sampler`), by turns, a sweep each: local
  with one thread and with two, Ray with one worker and with two, of one thread each. How much
  faster one is than another is the median of the turns' own ratios;
- Spark: several fits by the settings chosen, in one JVM, of which the least seconds count, against
  all seconds of ours, blocks and sweeps. Neither's start counts; both are in the tables.

It takes Linux, and the right to a network of one's own for what starts Ray (`distributed_turns`).
"""

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from cf_pipeline_tests.benchmarks.distributed_data import CHOOSING, JUDGING
from cf_pipeline_tests.benchmarks.distributed_targets import (
    LOCAL,
    LOCAL_ON_TWO,
    ONE_WORKER,
    TWO_WORKERS,
    By,
    Swept,
    fastest,
    rows,
    rows_of_spark,
    targets,
)
from cf_pipeline_tests.benchmarks.distributed_turns import Turns
from cf_pipeline_tests.benchmarks.report import Row, print_report
from cf_pipeline_tests.benchmarks.scale import SIZES
from cf_pipeline_tests.benchmarks.scale_process import Figures, in_own_process

STAGES = ("sweeps", "Spark")
SAMPLERS = (LOCAL, LOCAL_ON_TWO, ONE_WORKER, TWO_WORKERS)
SPARK_SETTINGS = [
    {"rank": rank, "regParam": regularization, "maxIter": iterations}
    for rank, regularization in ((8, 0.03), (16, 0.05))
    for iterations in (5, 10)
]
SPARK_FITS = 2
SWEEPS, MOST_SWEEPS = 12, 60  # by turns at least, and to be as good as Spark
SURELY = 0.001  # RMSE by which carved rows are to be predicted better, for test rows to be, too


def main() -> None:
    """Measure what the command line names, by default all, and print."""
    parser = argparse.ArgumentParser(description="The sampler on Ray, locally, and Spark's ALS.")
    parser.add_argument("--ratings", choices=SIZES, default="20M")
    parser.add_argument("--only", nargs="+", choices=STAGES, default=STAGES, metavar="STAGE")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cf_pipeline_") as folder:
        drawn = in_own_process("distributed_data:write_splits", folder, SIZES[chosen.ratings])
        given = {"folder": folder, "n_ratings": SIZES[chosen.ratings]}
        tried, ours, spark = None, None, None
        measured: dict[By, Swept] = {}
        if "Spark" in chosen.only:
            tried = _spark(Path(folder, CHOOSING), SPARK_SETTINGS)
        if "sweeps" in chosen.only:
            if tried:
                ours = as_good_as(fastest(tried["fits"])["rmse"] - SURELY, given)
            measured = by_turns(given, ours.needed if ours else SWEEPS)
        if tried:
            best = fastest(tried["fits"])
            setting = {name: best[name] for name in SPARK_SETTINGS[0]}
            spark = _spark(Path(folder, JUDGING), [setting] * SPARK_FITS)
    lines: list[Row] = list(rows(measured, drawn["floor"]))
    if tried and spark:
        lines += rows_of_spark(tried, ours, spark)
    print_report("distributed", lines, list(targets(measured, spark)))


def as_good_as(rmse: float, given: Figures) -> Swept:
    """Sweep until the carved rows are predicted with that RMSE, but for MOST_SWEEPS."""
    with _started(LOCAL, given, CHOOSING) as sampler:
        sweeps: list[Figures] = []
        while len(sweeps) < MOST_SWEEPS:
            sweeps.append(sampler.take())
            reached = sweeps[-1]["rmse"]
            print(f"sweep {len(sweeps)}: RMSE {reached} of {rmse}", file=sys.stderr)
            if reached is not None and reached <= rmse:
                break
    return Swept(sampler.figures, sweeps, len(sweeps))


def by_turns(given: Figures, needed: int) -> dict[By, Swept]:
    """Set all samplers up, one after the other, and have them sweep by turns."""
    with ExitStack() as stack:
        samplers = {by: stack.enter_context(_started(by, given, JUDGING)) for by in SAMPLERS}
        turns = [
            {by: sampler.take() for by, sampler in samplers.items()}
            for _ in range(max(needed, SWEEPS))
        ]
    return {
        by: Swept(sampler.figures, [turn[by] for turn in turns], needed)
        for by, sampler in samplers.items()
    }


def _started(by: By, given: Figures, split: str) -> Turns:
    arguments = {**by._asdict(), "n_ratings": given["n_ratings"]}
    arguments["split"] = str(Path(given["folder"], split))
    return Turns("distributed_sampler", arguments, alone=by.workers > 0)


def _spark(split: Path, settings: list[Figures]) -> Figures:
    figures = in_own_process("distributed_spark:als", str(split), settings)
    print("Spark", figures, file=sys.stderr)
    return figures


if __name__ == "__main__":
    main()
