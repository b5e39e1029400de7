"""A real Ray cluster of two nodes on one machine, and the namespace it is kept in.

Ray listens on every network interface, whatever address it is told. So whatever starts Ray runs in
a network of its own, which has nothing but a loopback, and as processes of its own, all of which
end with the one that began.
"""

import importlib.util
import os
import pickle
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import psutil
import pytest

from cf_pipeline_tests.project import REPOSITORY

if TYPE_CHECKING:
    from ray._private.node import Node
    from ray.cluster_utils import Cluster

# Two loopback addresses, or Ray would take the two nodes for one machine.
# The first is under the name that Ray's own directory has.
ADDRESSES = {"ray": "127.0.0.1", "second": "127.0.0.2"}
JOB_SERVER = "http://127.0.0.1:8265"  # of a cluster that takes jobs; a namespace has it for itself
# A node that is gone is found in two seconds, not in 30; one that is only slow stays.
SYSTEM = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 5000,
    "health_check_failure_threshold": 4,
}
OBJECT_STORE = 80 << 20  # bytes: little less is refused


def in_namespace(function: Callable[..., Any], *arguments: object, timeout: float = 120.0) -> Any:
    """Return what `function(*arguments)` returns in a process that has a network to itself.

    The function is one of a module, and what it takes and returns can be pickled. All that it
    prints is shown where the test fails. What it raises, and more than `timeout` seconds, fails the
    test; whatever it has started is killed as it ends, in any case. Where there is no Ray, or where
    namespaces are not permitted, the test is skipped, and fails in CI.
    """
    if importlib.util.find_spec("ray") is None:
        _give_up("Ray is not installed: pip install --editable '.[ray]'")
    probe = subprocess.run([*_unshared(), "true"], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        _give_up(f"Ray is to have a network of its own: {probe.stderr.strip()}")
    # Of a long path Ray's sockets would be too long; and Ray writes its address beside them.
    with tempfile.TemporaryDirectory(prefix="cf_ray_", dir="/tmp") as temporary:
        (Path(temporary) / "call").write_bytes(pickle.dumps((function, arguments)))
        command = [sys.executable, "-m", "cf_pipeline_tests.ray_cluster", temporary]
        try:
            done = subprocess.run(
                [*_unshared(), *command],
                env=_variables(temporary),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            said = (error.stdout or b"").decode(errors="replace")
            pytest.fail(f"{function.__name__} took more than {timeout} s:\n{said}", pytrace=False)
        if done.returncode != 0:
            why = f"{function.__name__} ended with {done.returncode}:\n{done.stdout}"
            pytest.fail(why, pytrace=False)
        sys.stdout.write(done.stdout)
        return pickle.loads((Path(temporary) / "outcome").read_bytes())


@dataclass(frozen=True)
class TwoNodes:
    """A cluster: Ray's own object, and its two nodes, each with one CPU.

    The driver is on the first, which is the cluster's head.
    """

    cluster: "Cluster"
    nodes: tuple["Node", "Node"]

    @property
    def address(self) -> str:
        """What `ray.init` takes; the variable RAY_ADDRESS has it too while the cluster is up."""
        return str(self.cluster.address)

    def alive(self) -> set[str]:
        """Return the ids of the nodes that the cluster believes alive."""
        table = self.cluster.global_state.node_table()
        return {str(node["NodeID"]) for node in table if node["Alive"]}

    def workers(self, node: "Node") -> list[int]:
        """Return the process ids of a node's workers, idle ones included."""
        children = psutil.Process(_raylet(node).pid).children()
        return [process.pid for process in children if not _is_agent(process)]

    def kill_node(self, node: "Node", wait: bool = True) -> None:
        """Kill all of a node's processes at once, as a loss of its machine would.

        With `wait` this returns when the cluster has found that the node is dead. The first node's
        end is not a machine's: what the cluster knows is in a process that goes on.
        """
        _kill(_raylet(node))
        until = time.monotonic() + 30
        while wait and node.node_id in self.alive():
            assert time.monotonic() < until, "the node's death was not seen in 30 s"
            time.sleep(0.05)


@contextmanager
def two_nodes(job_server: bool = False) -> Iterator[TwoNodes]:
    """Run a cluster of two nodes while the block lasts; only for a function of `in_namespace`.

    Its workers have this process's environment. `job_server` has it take jobs, as the dashboard
    does, at `JOB_SERVER`, and takes two seconds more.
    """
    import ray
    from ray.cluster_utils import Cluster

    temporary = Path(os.environ["RAY_TMPDIR"])
    assert str(temporary).startswith("/tmp/cf_ray_"), (
        "two_nodes() is for functions of in_namespace()"
    )
    each: dict[str, Any] = {
        "num_cpus": 1,
        "object_store_memory": OBJECT_STORE,
        "include_dashboard": job_server,
        "include_log_monitor": False,
        "no_monitor": True,  # it is for clusters that grow and shrink
    }
    cluster = Cluster(shutdown_at_exit=False)
    try:
        nodes = [
            cluster.add_node(
                **each,
                node_ip_address=address,
                temp_dir=str(temporary / name),
                _system_config=None if cluster.head_node else SYSTEM,
            )
            for name, address in ADDRESSES.items()
        ]
        os.environ["RAY_ADDRESS"] = cluster.address
        yield TwoNodes(cluster, (nodes[0], nodes[1]))
    finally:
        os.environ.pop("RAY_ADDRESS", None)
        ray.shutdown()
        # Killed, as it takes seconds to end when it is asked to.
        for node in cluster.list_all_nodes():
            for processes in node.all_processes.values():
                for process in processes:
                    _kill(process.process)


def _give_up(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _raylet(node: "Node") -> "subprocess.Popen[bytes]":
    (raylet,) = node.all_processes["raylet"]
    process: subprocess.Popen[bytes] = raylet.process
    return process


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill the process and all that it has started, if it has not ended."""
    if process.poll() is not None:
        return
    first = psutil.Process(process.pid)
    first.suspend()  # or it would start more meanwhile
    for each in [*first.children(recursive=True), first]:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()


def _is_agent(process: psutil.Process) -> bool:
    return "Agent" in process.cmdline()[0]  # ray::DashboardAgent, and that of runtime environments


def _unshared() -> list[str]:
    """Return the command that runs another in namespaces of its own, and kills all with it."""
    mine = [] if os.geteuid() == 0 else ["--user", "--map-current-user", "--keep-caps"]
    return [
        *("setpriv", "--pdeathsig", "KILL"),  # should the tests themselves be killed
        *("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", *mine),
        # The shell stays, as the first process, which has to bury the orphans.
        *("sh", "-c", 'ip link set lo up && "$@"; exit $?', "sh"),
    ]


def _variables(temporary: str) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CF_", "DAGSTER", "RAY_"))
    }
    own = {
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",  # or processes that share two cores would wait for each other
        "PYTHONUNBUFFERED": "1",  # or of a process that is killed nothing would be seen
        "RAY_TMPDIR": temporary,
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    return inherited | own


def _main(temporary: Path) -> int:
    function, arguments = pickle.loads((temporary / "call").read_bytes())
    try:
        outcome = function(*arguments)
    except Exception:
        traceback.print_exc()
        return 1
    (temporary / "outcome").write_bytes(pickle.dumps(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1])))
