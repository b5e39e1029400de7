"""Spark's ALS on the benchmark's ratings, on two threads of this machine.

One process, the JVM, holds everything in memory: nothing is spilled, and nothing is checkpointed.
The seconds of a fit are Spark's own `fit`, which reads the ratings from parquet as it goes; the
start of the JVM is told apart. Of several fits the first compiles Spark's code as it goes, so that
the least seconds are those of a JVM that is warm. Whoever was never rated is predicted the mean of
the rating scale, and all predictions are clamped to the scale, as ours are. The JVM's peak memory
is what it took, which may be more than it needs: its heap grows towards `MEMORY` first.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import psutil

from cf_pipeline.recommender.rating_scale import STARS
from cf_pipeline_tests.benchmarks.distributed_data import COLUMNS
from cf_pipeline_tests.benchmarks.distributed_usage import cpu_seconds, peak_of
from cf_pipeline_tests.benchmarks.scale_process import Figures

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

HERE = "127.0.0.1"
THREADS = 2
MEMORY = "10g"
STACK = "-Xss64m"  # of a thread: by default twenty iterations that are not checkpointed overflow it
Setting: TypeAlias = dict[str, Any]  # the keyword arguments of ALS


def als(split: str, settings: list[Setting]) -> Figures:
    """Fit by each of the settings in turn, and judge it; the figures of each are in `fits`."""
    start = time.perf_counter()
    with _session(split) as spark:
        started = time.perf_counter() - start
        train, test = (spark.read.parquet(f"{split}/{part}.parquet") for part in ("train", "test"))
        fits = []
        for setting in settings:
            fits.append(setting | _fit(train, test, setting))
            for kept in spark.sparkContext._jsc.getPersistentRDDs().values():
                kept.unpersist()  # a model that nobody has any more
        jvm = peak_of(process.pid for process in psutil.Process().children(recursive=True))
    seconds = min(fit["seconds"] for fit in fits)
    return {"seconds": seconds, "start seconds": started, "fits": fits, "jvm_bytes": jvm}


def _fit(train: "DataFrame", test: "DataFrame", setting: Setting) -> Figures:
    from pyspark.ml.recommendation import ALS

    user, movie, rating = COLUMNS
    method = ALS(
        userCol=user,
        itemCol=movie,
        ratingCol=rating,
        coldStartStrategy="nan",
        checkpointInterval=-1,
        seed=0,
        **setting,
    )
    used, start = cpu_seconds(), time.perf_counter()
    model = method.fit(train)
    taken = {"seconds": time.perf_counter() - start, "CPU seconds": cpu_seconds() - used}
    judged = model.transform(test).select(rating, "prediction").toPandas()
    predicted = judged["prediction"].fillna(sum(STARS) / 2).clip(*STARS)
    errors = (predicted - judged[rating]).to_numpy(np.float64)
    return {**taken, "rmse": float(np.sqrt(np.mean(errors**2)))}


@contextmanager
def _session(split: str) -> "Iterator[SparkSession]":
    from pyspark.sql import SparkSession

    os.environ["SPARK_LOCAL_IP"] = HERE
    builder = SparkSession.builder.master(f"local[{THREADS}]")
    for name, value in {
        "spark.driver.bindAddress": HERE,
        "spark.driver.extraJavaOptions": STACK,
        "spark.driver.host": HERE,
        "spark.driver.memory": MEMORY,
        "spark.local.dir": str(Path(split, "spark")),
        "spark.log.level": "ERROR",
        "spark.ui.enabled": "false",
    }.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    try:
        yield spark
    finally:
        spark.stop()
