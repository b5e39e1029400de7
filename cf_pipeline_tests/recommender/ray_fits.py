"""What is fitted on a Ray cluster in tests: functions of `in_namespace`, which have one around."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch

from cf_pipeline.recommender import distillation, implicit_als
from cf_pipeline.recommender.executors import LOCAL, BlockError, Part
from cf_pipeline.recommender.features import SideFeatures
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.ranking_model import judge
from cf_pipeline.recommender.settings import GibbsSettings, RankingSettings
from cf_pipeline_tests.ray_cluster import TwoNodes, two_nodes

if TYPE_CHECKING:
    from ray._private.node import Node
    from torch import Tensor

    from cf_pipeline.recommender.executors import Executor


def digest(*tensors: Tensor) -> str:
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


def fitted(folder: Path, settings: GibbsSettings, executor: Executor) -> dict[str, str]:
    """Fit and evaluate by an executor, and return the digest of whatever comes out.

    `folder` has encoded ratings of a part 'train' and of a part 'test', and features.
    """
    train, test = (EncodedRatings.load(folder, part) for part in ("train", "test"))
    side = SideFeatures(*torch.load(folder / "side.pt"))
    fit = distillation.fit(train, side, settings, test, executor=executor)
    assert fit.posterior is not None
    ranking = RankingSettings(iterations=1, block_ratings=settings.block_ratings)
    implicit = implicit_als.fit(train, side, ranking, executor=executor)
    judged = judge(implicit.users, implicit.items, train, test, executor)
    return {
        "posterior": digest(fit.posterior.user_weights, fit.posterior.item_weights),
        "model": digest(*fit.model.state_dict().values()),
        "trace": str([row["validation_rmse"] for row in fit.progress]),
        "implicit": digest(implicit.users, implicit.items),
        "lists": str(judged),
    }


def on_two_nodes(folder: Path, settings: GibbsSettings) -> tuple[list[dict[str, str]], int]:
    """Return what fits give here, on a cluster, while its workers die, and when a node does.

    And how many bytes the cluster's object store put on the disk.
    """
    from cf_pipeline.recommender.ray_executor import RayExecutor

    torch.set_num_threads(1)
    found = [fitted(folder, settings, LOCAL)]
    with two_nodes() as cluster:
        executor = RayExecutor.connect(cluster.address)
        found.append(fitted(folder, settings, executor))
        nodes = {usage.node for usage in executor.usage()}
        assert len(nodes) == 2, nodes
        with workers_dying(cluster) as killed:
            found.append(fitted(folder, settings, executor))
        assert killed, "no worker was at work when it was to be killed"
        with node_dying(cluster):
            found.append(fitted(folder, settings, executor))
        assert len(cluster.alive()) == 1
        spilled = _spilled()
        executor.close()
    return found, spilled


def _spilled() -> int:
    from ray._private.internal_api import memory_summary

    found = re.search(r"Spilled (\d+) MiB", memory_summary(stats_only=True))
    return int(found.group(1)) << 20 if found else 0


@contextmanager
def workers_dying(cluster: TwoNodes, most: int = 3) -> Iterator[list[str]]:
    """Kill some workers while they draw weights, and return what they were called."""
    killed: list[str] = []

    def kill(over: threading.Event) -> None:
        for node in (*cluster.nodes, *cluster.nodes)[:most]:
            while not over.is_set():
                if name := _kill_one_at_work(cluster, node):
                    killed.append(name)
                    break
                time.sleep(0.002)

    with _meanwhile(kill):
        yield killed


@contextmanager
def node_dying(cluster: TwoNodes) -> Iterator[None]:
    """Kill the second node with all its workers once one of them draws weights."""

    def kill(over: threading.Event) -> None:
        while not over.is_set():
            if any(_at_work(cluster, cluster.nodes[1])):
                cluster.kill_node(cluster.nodes[1])
                return
            time.sleep(0.002)

    with _meanwhile(kill):
        yield


@contextmanager
def _meanwhile(do: Callable[[threading.Event], None]) -> Iterator[None]:
    over = threading.Event()
    thread = threading.Thread(target=do, args=[over])
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=60)


def _kill_one_at_work(cluster: TwoNodes, node: Node) -> str | None:
    for process in _at_work(cluster, node):
        with suppress(psutil.Error):
            name = " ".join(process.cmdline())
            process.kill()
            return name
    return None


def _at_work(cluster: TwoNodes, node: Node) -> Iterator[psutil.Process]:
    """Yield the workers of a node that draw weights at the moment."""
    with suppress(psutil.Error):  # one that ends meanwhile
        for pid in cluster.workers(node):
            process = psutil.Process(pid)
            if "draw_block" in " ".join(process.cmdline()):
                yield process


def on_a_poisoned_block(folder: Path, settings: GibbsSettings) -> list[str]:
    """Return what is said of ratings one of which is no number, and of a task that kills."""
    from cf_pipeline.recommender.ray_executor import RayExecutor

    said = []
    with two_nodes() as cluster:
        executor = RayExecutor.connect(cluster.address)
        for attempt in (
            lambda: fitted(folder, settings, executor),
            lambda: list(executor.map(end_the_process, [Part("Block 3 of 9", 0, ())])),
        ):
            try:
                attempt()
            except BlockError as error:
                said.append(str(error))
        executor.close()
    return said


def end_the_process() -> None:
    """Kill whoever runs this, as a fault of a library or the lack of memory does."""
    os.kill(os.getpid(), signal.SIGKILL)


def where_gpus_are(device: str) -> tuple[set[str], str]:
    """Return where tasks for a device ran in a cluster with one GPU, and where the GPU is."""
    import ray

    from cf_pipeline.recommender.ray_executor import RayExecutor

    with two_nodes() as cluster:
        with_gpu = cluster.cluster.add_node(num_cpus=0, num_gpus=1, node_ip_address="127.0.0.3")
        executor = RayExecutor.connect(cluster.address).on(device, print)
        parts = [Part(str(number), 1, (number,)) for number in range(6)]
        assert list(executor.map(abs, parts)) == list(range(6))
        nodes = {usage.node for usage in executor.usage()}
        ray.shutdown()
    return nodes, str(with_gpu.node_id)[:8]
