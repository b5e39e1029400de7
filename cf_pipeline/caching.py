"""How Dagster assets use the artifact store: they ask it before they work.

Dagster records versions and shows staleness by them, but does not skip a step that a run asks for.
So every asset hands its work to `Artifacts.materialize`, which reuses the stored result of the same
recipe or runs the work, and reports either one as a materialization whose data version is the
digest of the result. Dagster's staleness and our reuse then cannot disagree.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field, PrivateAttr

from cf_pipeline import runs
from cf_pipeline.artifact_metadata import figures, shown_metadata, stored_metadata
from cf_pipeline.artifact_store import ArtifactStore
from cf_pipeline.artifacts import Artifact, Recipe
from cf_pipeline.code_version import edited_modules
from cf_pipeline.interrupts import keep_interrupts
from cf_pipeline.remote import Remote
from cf_pipeline.store_layout import ArtifactError, ensure_layout, scratch_of, writing

Metadata = Mapping[str, Any]  # values that Dagster takes as metadata
Build = Callable[[Path], Metadata]


def default_root() -> str:
    """Return where results live by default: beside Dagster's own history."""
    home = Path(os.environ.get("DAGSTER_HOME") or ".")
    return os.environ.get("CF_PIPELINE_ARTIFACTS") or str(home / ".dagster" / "artifacts")


class Artifacts(dg.ConfigurableIOManager):
    """The artifact store as a Dagster resource, through which assets reuse or build their results.

    As an I/O manager it passes `Artifact`s, which name a result without reading it: a step that
    finds its own result in the store never opens its inputs.
    """

    root: str = Field(
        default_factory=default_root,
        description="Directory of the artifact store. Default: CF_PIPELINE_ARTIFACTS, or "
        ".dagster/artifacts in DAGSTER_HOME or the working directory.",
    )

    # The key of each result that this process has made or found, by run and asset: to look it up in
    # the history takes longer than a hit does.
    _made: dict[tuple[str, dg.AssetKey], str] = PrivateAttr(default_factory=dict)

    @property
    def store(self) -> ArtifactStore:
        """The store under `root`, and behind it the remote that CF_PIPELINE_REMOTE names."""
        return ArtifactStore(Path(self.root), Remote.from_environment())

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Say that the run is in progress, and fail those that no longer are."""
        instance, run, log = context.instance, context.run, dg.get_dagster_logger().warning
        if instance is None or run is None:
            return
        keep_interrupts()
        root, remote = self.store.root, self.store.remote
        ensure_layout(root, log)
        if remote is not None:
            remote.check()
        if not os.access(root, os.W_OK):
            log(f"{root} can only be read: this run takes what is there.")
            return
        with writing(root, f"The lock of run {run.run_id}"):
            runs.hold(instance, run.run_id, root)
        runs.fail_dead_runs(instance, root, log)

    def materialize(
        self,
        context: dg.AssetExecutionContext,
        build: Build,
        inputs: Sequence[Artifact] = (),
        config: Mapping[str, object] | None = None,
    ) -> dg.MaterializeResult[Artifact]:
        """Reuse or build the asset's result.

        `build` writes the files of the result into the directory it is given and returns the
        metadata to show; it runs on a miss only. `config` is what decides the result, as JSON.
        """
        began = time.monotonic()
        artifact, hit = self.reuse_or_build(context, build, inputs, config)
        return self.result(context, artifact, hit, time.monotonic() - began)

    def reuse_or_build(
        self,
        context: dg.AssetExecutionContext,
        build: Build,
        inputs: Sequence[Artifact] = (),
        config: Mapping[str, object] | None = None,
    ) -> tuple[Artifact, bool]:
        """Return the asset's result, as `materialize` does, and whether it was there already."""
        code_version = context.assets_def.specs_by_key[context.asset_key].code_version
        if code_version is None:
            raise dg.DagsterInvalidDefinitionError(
                f"{context.asset_key.to_user_string()} has no code version: give it "
                "code_version=code_version(__name__), or an edit of its source would go unnoticed."
            )
        asset = context.asset_key.to_user_string()
        return self.part(asset, code_version, inputs, build, config)

    def result(
        self,
        context: dg.AssetExecutionContext,
        artifact: Artifact,
        hit: bool,
        seconds: float,
        metadata: Metadata | None = None,
    ) -> dg.MaterializeResult[Artifact]:
        """Report a result as the asset's, with `metadata` of this run beside that of the result.

        `seconds` are those that this run took for it: next to none for a hit.
        """
        self.store.point_latest(artifact, context.log.warning)
        shown = shown_metadata(artifact, hit)
        context.log.info(f"Cache {shown['cache']}: {figures(shown)}in {artifact.directory}")
        return dg.MaterializeResult(
            value=artifact,
            data_version=dg.DataVersion(artifact.data_version),
            metadata={**shown, "seconds": round(seconds, 3), **(metadata or {})},
        )

    def part(
        self,
        name: str,
        code_version: str,
        inputs: Sequence[Artifact],
        build: Build,
        config: Mapping[str, object] | None = None,
    ) -> tuple[Artifact, bool]:
        """Reuse or build a part of an asset's result, kept by itself under `name`.

        The second value says whether it was there already.

        `build` is as for `materialize`. What it raises is not remembered: the next run tries again.
        """
        _refuse_mixed(name, inputs)
        self.refuse_finished_run(name)

        def build_unedited(directory: Path) -> Mapping[str, Any]:
            try:
                metadata = build(directory)
            finally:
                if edited := edited_modules():  # nothing goes on from what such code left
                    shutil.rmtree(scratch_of(directory), ignore_errors=True)
            if edited:
                raise ArtifactError(
                    f"{name} is not kept: {', '.join(edited)} changed while it was made, so its "
                    "source is not the one that its code version was derived from. Run it again."
                )
            self.refuse_finished_run(name)
            return stored_metadata(metadata)

        versions = {artifact.asset: artifact.data_version for artifact in inputs}
        recipe = Recipe(name, code_version, config or {}, versions)
        return self.store.get_or_build(recipe, build_unedited, dg.get_dagster_logger().warning)

    def handle_output(self, context: dg.OutputContext, obj: Artifact) -> None:
        """Remember which result it is: what an asset returns is in the store already."""
        self._made[context.run_id, context.asset_key] = obj.key

    def load_input(self, context: dg.InputContext) -> Artifact:
        """Return the upstream asset's result: this run's, else the latest in Dagster's history.

        Raises:
            ArtifactError: the asset was never materialized in this history, or its result is no
            longer in the store.
        """
        materialization = None
        if context.upstream_output is not None:
            # Another run may have materialized the asset since, with another config: not for this.
            run_id, asset = context.upstream_output.run_id, context.asset_key
            if key := self._made.get((run_id, asset)):  # else another process made it
                return self._open(asset, key)
            materialization = _materialized_in(context.instance, run_id, asset)
        if materialization is None:
            return self.latest(context.instance, context.asset_key)
        return self._open(context.asset_key, str(materialization.metadata["cache_key"].value))

    def latest(self, instance: dg.DagsterInstance, asset_key: dg.AssetKey) -> Artifact:
        """Return the asset's latest result in Dagster's history.

        Raises:
            ArtifactError: the asset was never materialized in this history, or its result is no
            longer in the store.
        """
        asset = asset_key.to_user_string()
        event = instance.get_latest_materialization_event(asset_key)
        materialization = event.asset_materialization if event else None
        if materialization is None or "cache_key" not in materialization.metadata:
            raise ArtifactError(
                f"{asset} has no materialization in this Dagster history: materialize it and what "
                f"it is made from too, with `dagster asset materialize --select '*{asset}'`."
            )
        return self._open(asset_key, str(materialization.metadata["cache_key"].value))

    def refuse_finished_run(self, name: str) -> None:
        """Raise ArtifactError if Dagster holds this run to be over: it publishes nothing more."""
        context = self.get_resource_context()
        if context.instance is None or context.run is None:
            return
        run = context.instance.get_run_by_id(context.run.run_id)
        if run is not None and run.is_finished:
            raise ArtifactError(
                f"{name} is not kept: run {run.run_id} was marked {run.status.value} while its "
                "process went on. Launch it again."
            )

    def _open(self, asset_key: dg.AssetKey, key: str) -> Artifact:
        return self.store.open(asset_key.to_user_string(), key, dg.get_dagster_logger().warning)


def _materialized_in(
    instance: dg.DagsterInstance, run_id: str, asset_key: dg.AssetKey
) -> dg.AssetMaterialization | None:
    records = instance.get_records_for_run(
        run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
    ).records
    for record in reversed(records):
        materialization = record.event_log_entry.asset_materialization
        if materialization is not None and materialization.asset_key == asset_key:
            return materialization
    return None


def _refuse_mixed(name: str, inputs: Sequence[Artifact]) -> None:
    """Raise ArtifactError where one input was made from another result than the other input is.

    Single assets can be materialized in any order: a model of one split would be judged on another.
    """
    versions = {artifact.asset: artifact.data_version for artifact in inputs}
    for artifact in inputs:
        for source, version in artifact.inputs.items():
            if versions.get(source, version) != version:
                raise ArtifactError(
                    f"{name} cannot be made: the latest {artifact.asset} was made from another "
                    f"{source} than the latest. Materialize what lies between too, with "
                    f"`dagster asset materialize --select '*{name}'`."
                )
