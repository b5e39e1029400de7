"""Where the tasks of a run's results are worked on, as a Dagster resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import dagster as dg
from pydantic import Field, PrivateAttr

from cf_pipeline.caching import Metadata
from cf_pipeline.deployment import DEPLOYMENT
from cf_pipeline.metadata import table_of
from cf_pipeline.recommender.executors import LOCAL, RayUnavailableError

if TYPE_CHECKING:
    from cf_pipeline.recommender.executors import Executor
    from cf_pipeline.recommender.ray_executor import RayExecutor


# Dagster's resources are generic in what they give, which is themselves.
class Compute(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Where blocks of ratings are worked on: in the run's own process, or on a Ray cluster.

    What comes out is the same, so it decides nothing of what is in the store.
    """

    executor: Literal["local", "ray"] = Field(
        default="ray" if DEPLOYMENT.ray else "local",
        description="'local': in the run's own process. 'ray': by the workers of a Ray cluster; "
        "install cf_pipeline[ray]. Default: 'ray' where CF_PIPELINE_RAY names a cluster.",
    )
    address: str = Field(
        default=DEPLOYMENT.ray or "local",
        description="Of the cluster, for 'ray': 'auto' for the one that this machine belongs to, "
        "'host:port', or 'local' for one of this machine's own cores, which lasts as long as the "
        "run. Default: CF_PIPELINE_RAY.",
    )
    _started: RayExecutor | None = PrivateAttr(None)

    def start(
        self,
        context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext,
        device: str = "cpu",
    ) -> Executor:
        """Return the executor of the run, which is told where to log; the first call starts it.

        `device` is a torch device for its tasks, or 'auto': a GPU where the cluster has any.

        Raises:
            RayUnavailableError: Ray is not installed, or the cluster cannot be reached.
        """
        if self.executor == "local":
            return LOCAL
        if self._started is None:
            try:
                from cf_pipeline.recommender.ray_executor import RayExecutor
            except ImportError as error:
                raise RayUnavailableError(
                    f"Ray cannot be imported ({error}): pip install 'cf_pipeline[ray]', or choose "
                    "the executor 'local' in the config of the resource compute, or unset "
                    "CF_PIPELINE_RAY."
                ) from error

            self._started = RayExecutor.connect(self.address)
            context.log.info(f"Working on a Ray cluster: {self._started.described()}.")
        return self._started.on(device, context.log.info)

    def start_fit(
        self,
        context: dg.AssetExecutionContext,
        by_blocks: bool,
        device: str,
    ) -> Executor:
        """Return what `start` does for a fit `by_blocks`, and for another the run's own process.

        Raises:
            RayUnavailableError: Ray is not installed, or the cluster cannot be reached.
        """
        if by_blocks or self.executor == "local":
            return self.start(context, device)
        context.log.info(
            "Fitting in the run's own process: neither gradient descent nor the ordinal likelihood "
            "works by blocks."
        )
        return LOCAL

    # Dagster gives the context, whoever needs it.
    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002
        """Leave the cluster, or end it if it was started for the run."""
        if self._started is not None:
            self._started.close()
            self._started = None


def nodes_of(executor: Executor) -> Metadata:
    """Return what each node did for a result, as metadata of it; nothing where there is one."""
    rows = [usage.shown() for usage in executor.usage()]
    return {"nodes": table_of(rows)} if rows else {}
