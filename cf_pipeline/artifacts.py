"""What is in the artifact store: results of assets, and the recipes that decide them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cf_pipeline.recommender.downloads import sha256
from cf_pipeline.store_layout import ArtifactError, digest

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a result; equal recipes have equal results.

    `config` must be JSON; `inputs` maps the name of each input to its data version.
    """

    asset: str
    code_version: str
    config: Mapping[str, Any]
    inputs: Mapping[str, str]

    @cached_property
    def key(self) -> str:
        """128 bits of SHA-256, in hexadecimal: the name of the result's directory."""
        return digest(asdict(self))


@dataclass(frozen=True)
class Artifact:
    """One complete, immutable result.

    `files` maps each file's name to its SHA-256; `data_version` is the digest of them all, so equal
    contents have equal versions, whatever made them. `inputs` are the data versions of what it was
    made from, by the code of `code_version`. `metadata` is what the builder said about the result,
    and is not part of the version.
    """

    asset: str
    key: str
    code_version: str
    directory: Path
    files: Mapping[str, str]
    data_version: str
    inputs: Mapping[str, str]
    metadata: Mapping[str, Any]

    def path(self, name: str) -> Path:
        """Return the path of the file `name`, its bytes verified.

        Raises:
            ArtifactError: the file is missing or altered.
        """
        path = self.directory / name
        try:
            found = sha256(path)
        except OSError as error:
            raise ArtifactError(f"{path} of {self.asset} cannot be read: {error}") from error
        if found != self.files[name]:
            raise ArtifactError(
                f"{path} of {self.asset} was altered: its SHA-256 is {found}, "
                f"{self.files[name]} was written. Materialize {self.asset} again."
            )
        return path

    def verified(self) -> Path:
        """Return the result's directory, the bytes of all its files verified.

        Raises:
            ArtifactError: a file is missing or altered, or one is there that was not written.
        """
        for name in self.files:
            self.path(name)
        try:
            there = {path.name for path in self.directory.iterdir()}
        except OSError as error:
            raise ArtifactError(f"{self.directory} cannot be read: {error}") from error
        strangers = there - {*self.files, MANIFEST}
        if strangers:
            raise ArtifactError(
                f"{self.directory} of {self.asset} has files that were not written into it: "
                f"{sorted(strangers)}. Take them away, or materialize {self.asset} again."
            )
        return self.directory
