"""What workers of a Ray cluster make of tasks: whose GPU they take, and files they have not got."""

from __future__ import annotations

import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from cf_pipeline.recommender.encoding import write_encoded
from cf_pipeline.recommender.executors import BlockError, Part
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline_tests.ray_cluster import in_namespace, two_nodes

SECONDS = 0.2


class OnGpu(NamedTuple):
    """Which GPU a task was given, and when it had it."""

    gpu: str
    began: float
    ended: float


class Seen(NamedTuple):
    on_gpus: list[OnGpu]
    works_on: str
    counted: int
    said_of_missing: list[str]
    said_of_gpu: str


def itself(value: Any) -> Any:
    return value


def take_gpu(seconds: float) -> OnGpu:
    from cf_pipeline.recommender.ray_tasks import own_gpu

    began = time.time()
    time.sleep(seconds)
    return OnGpu(str(own_gpu()), began, time.time())


def ratings_whose_files_are_gone() -> EncodedRatings:
    columns = [np.ones(1, np.int32), np.ones(1, np.int32), np.ones(1, np.float32)]
    with tempfile.TemporaryDirectory() as folder:
        write_encoded([columns], 1, Path(folder), "train")
        return EncodedRatings.load(Path(folder), "train")


def session() -> Seen:
    from cf_pipeline.recommender.ray_executor import RayExecutor

    with two_nodes() as cluster:
        executor = RayExecutor.connect(cluster.address)
        gone = ratings_whose_files_are_gone()
        [kept] = executor.keep(itself, [Part("", 1, ())], gone)
        missing = [
            said_by(executor, Part("Part 1", 1, (gone,))),
            said_by(executor, Part("Part 1", 1, (kept,))),
        ]
        cluster.cluster.add_node(num_cpus=0, num_gpus=2, node_ip_address="127.0.0.3")
        on_gpu = executor.on("cuda", lambda _: None)
        parts = [Part(str(number), 1, (SECONDS * (1 + number % 3),)) for number in range(8)]
        on_gpus = list(on_gpu.map(take_gpu, parts))
        counted = sum(usage.tasks for usage in executor.usage())
        no_cuda = said_by(on_gpu, Part("Part 1", 1, (torch.ones(2),)))
        works_on = on_gpu.works_on("cpu")
        executor.close()
    return Seen(on_gpus, works_on, counted, missing, no_cuda)


def said_by(executor: Any, part: Part) -> str:
    with pytest.raises(BlockError) as error:
        list(executor.map(itself, [part]))
    return str(error.value)


@pytest.fixture(scope="module")
def seen() -> Seen:
    pytest.importorskip("ray", reason="pip install --editable '.[ray]'")
    found: Seen = in_namespace(session)
    return found


def test_no_two_tasks_have_one_gpu_at_a_time_and_all_are_used(seen: Seen) -> None:
    assert {task.gpu for task in seen.on_gpus} == {"cuda:0", "cuda:1"}
    for gpu in ("cuda:0", "cuda:1"):
        tasks = sorted(task for task in seen.on_gpus if task.gpu == gpu)  # by when they began
        assert all(one.ended <= other.began for one, other in pairwise(tasks))


def test_executors_of_one_connection_share_what_they_count(seen: Seen) -> None:
    assert seen.counted == len(seen.on_gpus)
    assert seen.works_on == "ray: 2 GPUs"


def test_a_file_that_a_node_has_not_got_is_named_with_what_to_do(seen: Seen) -> None:
    for said in seen.said_of_missing:
        assert said.startswith("Part 1 failed: [Errno 2] No such file or directory: '")
        assert "train_users.npy': the artifact store must be under the same path on every" in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_torch_does_not_find_is_no_silent_fall_to_the_cpu(seen: Seen) -> None:
    assert "torch finds none there: install torch for CUDA on every node" in seen.said_of_gpu
