"""Where runs work, and what is said where they cannot; without any cluster."""

import signal
import sys
from contextlib import nullcontext

import dagster as dg
import pytest

from cf_pipeline.compute import Compute
from cf_pipeline.recommender.executors import LOCAL, BlockError, Part, RayUnavailableError
from cf_pipeline.recommender.settings import FactorModelSettings


def test_without_ray_its_extra_is_named_and_the_other_executor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "cf_pipeline.recommender.ray_executor", raising=False)
    with pytest.raises(RayUnavailableError, match=r"pip install 'cf_pipeline\[ray\]', or choose"):
        Compute(executor="ray", address="auto").start(dg.build_asset_context())


class Ray:
    """Stands for a cluster that another part of the process is connected to, or that says no."""

    gcs_address = "10.0.0.1:6379"

    def __init__(self, monkeypatch: pytest.MonkeyPatch, connected: bool) -> None:
        ray = pytest.importorskip("ray", reason="pip install --editable '.[ray]'")
        self.ended = 0
        self.raises: Exception | None = None
        monkeypatch.setattr(ray, "is_initialized", lambda: connected)
        monkeypatch.setattr(ray, "get_runtime_context", lambda: self)
        monkeypatch.setattr(ray, "shutdown", self.shutdown)
        monkeypatch.setattr(ray, "init", self.init)
        monkeypatch.setattr(ray, "put", self.init)
        monkeypatch.setattr(ray.util, "register_serializer", lambda *_, **__: None)

    def shutdown(self) -> None:
        self.ended += 1

    def init(self, *_: object, **__: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as Ray does
        if self.raises:
            raise self.raises


@pytest.mark.parametrize("address", ["auto", Ray.gcs_address])
def test_a_cluster_that_was_in_use_before_is_used_and_not_ended(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Ray(monkeypatch, connected=True)
    from cf_pipeline.recommender.ray_executor import RayExecutor

    RayExecutor.connect(address).close()
    assert cluster.ended == 0


def test_another_cluster_than_the_one_in_use_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    Ray(monkeypatch, connected=True)
    from cf_pipeline.recommender.ray_executor import RayExecutor

    with pytest.raises(RayUnavailableError, match=r"10\.0\.0\.1:6379, .* 'local' is asked for: ch"):
        RayExecutor.connect("local")


def test_what_was_connected_here_is_ended_and_sigterm_does_what_it_did(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = Ray(monkeypatch, connected=False)
    from cf_pipeline.recommender.ray_executor import RayExecutor

    before = signal.getsignal(signal.SIGTERM)
    executor = RayExecutor.connect("auto")
    assert signal.getsignal(signal.SIGTERM) is before
    executor.close()
    assert cluster.ended == 1


def test_what_ray_says_itself_comes_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Ray(monkeypatch, connected=False)
    from ray.exceptions import RaySystemError

    from cf_pipeline.recommender.ray_executor import RayExecutor

    executor = RayExecutor()
    cluster.raises = RaySystemError("no token")
    with pytest.raises(RayUnavailableError, match=r"reached \(.*no token.*\): start it, name"):
        RayExecutor.connect("auto")
    for way in (executor.map, executor.keep):
        with pytest.raises(BlockError, match=r"handed to Ray \(.*no token.*\): look whether"):
            list(way(abs, [Part("one", 1, (1,))], 2))


@pytest.mark.parametrize(
    ("settings", "by"),
    [
        ({"method": "gibbs"}, True),
        ({"method": "gibbs", "likelihood": "ordinal"}, False),
        ({"method": "gradient_descent"}, False),
    ],
)
def test_a_cluster_is_started_only_for_what_works_by_blocks(
    settings: dict[str, str], by: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cf_pipeline.recommender.methods import by_blocks

    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "cf_pipeline.recommender.ray_executor", raising=False)
    compute = Compute(executor="ray", address="auto")
    asked = by_blocks(FactorModelSettings.model_validate(settings))
    with pytest.raises(RayUnavailableError) if by else nullcontext():
        assert compute.start_fit(dg.build_asset_context(), asked, "cuda") is LOCAL
