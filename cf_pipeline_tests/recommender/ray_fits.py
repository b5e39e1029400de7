"""What is fitted on a Ray cluster in tests: functions of `in_namespace`, which have one around."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from unittest.mock import patch

import psutil
import torch

from cf_pipeline.recommender import distillation, gibbs, implicit_als, ray_executor
from cf_pipeline.recommender.executors import LOCAL, BlockError, Part
from cf_pipeline.recommender.features import SideFeatures
from cf_pipeline.recommender.list_quality import judge
from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.ray_executor import RayExecutor
from cf_pipeline.recommender.settings import GibbsSettings, RankingSettings
from cf_pipeline_tests.ray_cluster import TwoNodes, two_nodes

if TYPE_CHECKING:
    from ray._private.node import Node
    from torch import Tensor

    from cf_pipeline.recommender.executors import Executor

MOST_KILLED = 2


def digest(*tensors: Tensor) -> str:
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


def sampled(folder: Path, executor: Executor) -> dict[str, str]:
    """Sample by an executor, and return the digest of what comes out.

    `folder` has encoded ratings of a part 'train' and of a part 'test', features and settings.
    """
    train, test, side, settings = given(folder)
    found = gibbs.fit(train, side, settings, test, executor=executor)
    posterior = digest(found.posterior.user_weights, found.posterior.item_weights)
    return {"posterior": posterior, "trace": str(found.trace)}


def fitted(folder: Path, executor: Executor) -> dict[str, str]:
    """Fit all models and evaluate, and return the digest of whatever comes out, as `sampled`."""
    train, test, side, settings = given(folder)
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


def given(folder: Path) -> tuple[EncodedRatings, EncodedRatings, SideFeatures, GibbsSettings]:
    settings = GibbsSettings.model_validate_json((folder / "settings.json").read_bytes())
    train, test = (EncodedRatings.load(folder, part) for part in ("train", "test"))
    return train, test, SideFeatures(*torch.load(folder / "side.pt")), settings


class Fits(NamedTuple):
    """What fits to the same ratings gave: here, and on a cluster."""

    here: dict[str, str]
    on_ray: dict[str, str]


class Session(NamedTuple):
    """What was seen of a cluster: fits to few ratings and to many, and all that is to be asked.

    Something died while it fitted to many.
    """

    few: Fits
    many: Fits
    workers_died: dict[str, str]
    node_died: dict[str, str]
    nodes_at_work: int
    bytes_spilled: int
    said_of_poison: str
    said_of_death: str
    said_of_other_code: str
    gpu_tasks: dict[str, bool]


def session(few: Path, many: Path, poisoned: Path) -> Session:
    """Do everything on one cluster, as to start it takes its time.

    Folders have the ratings and `settings.json`. The last is what nobody can fit to.
    """
    torch.set_num_threads(1)
    began = time.monotonic()

    def told(what: str) -> None:
        sys.stdout.write(f"{time.monotonic() - began:.0f} s: {what}\n")

    here = fitted(few, LOCAL), sampled(many, LOCAL)
    told("fitted here")
    with two_nodes() as cluster:
        executor = RayExecutor.connect(cluster.address)
        told("cluster is up")
        on_ray = fitted(few, executor), sampled(many, executor)
        nodes_at_work = len(executor.usage())
        told("fitted there")
        with workers_dying(cluster) as killed:
            workers_died = sampled(many, executor)
        assert len(killed) == MOST_KILLED, "no worker was at work when it was to be killed"
        told("workers were killed")
        of_poison = said_by(lambda: fitted(poisoned, executor))
        told("poisoned")
        fatal = [Part("Block 3 of 9", 0, ())]
        with patch.object(ray_executor, "RETRIES", 1):  # each waits twice as long as the last
            of_death = said_by(lambda: list(executor.map(end_the_process, fatal)))
        with patch.object(ray_executor, "code_digest", lambda: "that of another commit"):
            of_other_code = said_by(lambda: list(executor.map(abs, [Part("Block 1", 1, (-1,))])))
        told("fatal")
        gpu_tasks = on_gpu(cluster)
        told("GPUs")
        with node_dying(cluster) as lost:
            node_died = sampled(many, executor)
        assert lost, "no worker was at work when its node was to be lost"
        told("a node was lost")
        spilled = _spilled()
        executor.close()
    return Session(
        Fits(here[0], on_ray[0]),
        Fits(here[1], on_ray[1]),
        workers_died,
        node_died,
        nodes_at_work,
        spilled,
        of_poison,
        of_death,
        of_other_code,
        gpu_tasks,
    )


def said_by(attempt: Callable[[], object]) -> str:
    """Return the message of the block that fails."""
    try:
        attempt()
    except BlockError as error:
        return str(error)
    return "nothing"


def on_gpu(cluster: TwoNodes) -> dict[str, bool]:
    """Return, by device, whether tasks for it ran on the one node that says it has a GPU."""
    node = cluster.cluster.add_node(num_cpus=0, num_gpus=1, node_ip_address="127.0.0.3")
    parts = [Part(str(number), 1, (-number,)) for number in range(4)]
    found = {}
    for device in ("cpu", "auto", "cuda"):
        executor = RayExecutor().on(device, print)
        assert list(executor.map(abs, parts)) == list(range(4))
        found[device] = {one.node.split()[-1] for one in executor.usage()} == {node.node_id[:8]}
    cluster.cluster.remove_node(node)
    return found


def _spilled() -> int:
    from ray._private.internal_api import memory_summary

    found = re.search(r"Spilled (\d+) MiB", memory_summary(stats_only=True))
    return int(found.group(1)) << 20 if found else 0


@contextmanager
def workers_dying(cluster: TwoNodes) -> Iterator[list[str]]:
    """Kill some workers while they draw weights, and return what they were called."""
    killed: list[str] = []

    def kill(over: threading.Event) -> None:
        for node in cluster.nodes[:MOST_KILLED]:
            while not over.is_set():
                if name := _kill_one_at_work(cluster, node):
                    killed.append(name)
                    break
                time.sleep(0.002)

    with _meanwhile(kill):
        yield killed


@contextmanager
def node_dying(cluster: TwoNodes) -> Iterator[list[str]]:
    """Kill the second node with all its workers once one draws weights, and return its id."""
    lost: list[str] = []

    def kill(over: threading.Event) -> None:
        while not over.is_set():
            if any(_at_work(cluster, cluster.nodes[1])):
                lost.append(cluster.nodes[1].node_id)
                cluster.kill_node(cluster.nodes[1])
                return
            time.sleep(0.002)

    with _meanwhile(kill):
        yield lost


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


def end_the_process() -> None:
    """Kill whoever runs this, as a fault of a library or the lack of memory does."""
    os.kill(os.getpid(), signal.SIGKILL)
