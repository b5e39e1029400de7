"""Code versions derived from the source that makes a result, so that nobody forgets to bump one."""

from __future__ import annotations

import ast
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from importlib.util import cache_from_source
from pathlib import Path

ROOT = Path(__file__).parent
# These decide where a result lives, where and when it is made and when it is used again, never what
# is in it: defaults that the deployment sets count as the config that they become.
FRAME = frozenset(
    f"cf_pipeline.{name}"
    for name in (
        *("artifact_metadata", "artifact_store", "artifacts", "caching", "code_version"),
        *("compute", "deployment", "devices", "locks", "records", "remote", "store_layout"),
    )
)
# A new release of one of these may compute something else from the same source.
# By the names they are imported and installed by.
LIBRARIES = {
    "PIL": "pillow",
    **{name: name for name in ("jinja2", "matplotlib", "numpy", "optuna", "pandas", "pyarrow")},
    "torch": "torch",
}


def code_version(module: str) -> str:
    """Return a digest of what makes a result: an asset's module and all that it imports.

    Project modules count by their source, and the numerical libraries by their release. The source
    is read, never imported: a version costs no import of torch. Comments, docstrings, formatting
    and what is there for type checkers alone do not count; imports inside functions do.

    Raises:
        ValueError: `module` is not one of this project, or an import in it is relative.
    """
    modules: set[str] = set()
    libraries: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in modules:
            continue
        modules.add(name)
        for imported in _parse(name)[1]:
            if imported in LIBRARIES:
                libraries.add(imported)
            elif imported not in FRAME and _source(imported) is not None:
                waiting.append(imported)
    parts = [f"{name} {_parse(name)[0]}" for name in sorted(modules)]
    parts += [f"{name} {_release(LIBRARIES[name])}" for name in sorted(libraries)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def edited_modules() -> list[str]:
    """Return the modules whose meaning is another than the versions so far were derived from.

    A module that is edited while a run goes on may be imported as it was or as it is.
    """
    return sorted(
        module
        for module, (state, digest) in _seen.items()
        if _state(module) != state and _meaning(module)[0] != digest
    )


# The release of a package, whose metadata are parsed once.
_release = cache(version)
# The state of each module's file when it was parsed, and the digest of its meaning.
_seen: dict[str, tuple[tuple[int, int], str]] = {}


def _state(module: str) -> tuple[int, int]:
    """Return the time and size of a module's file, which tell an edit without reading it."""
    source = _source(module)
    if source is None or not source.exists():
        return 0, 0
    status = source.stat()
    return status.st_mtime_ns, status.st_size


@cache
def _source(module: str) -> Path | None:
    """Return the file of a project module, None for any other name."""
    package, *names = module.split(".")
    if package != ROOT.name:
        return None
    path = ROOT.joinpath(*names)
    files = (path / "__init__.py", path.with_suffix(".py"))
    return next((file for file in files if file.is_file()), None)


@cache
def _parse(module: str) -> tuple[str, frozenset[str]]:
    """Return the digest of a module's meaning, and the names it imports, as of the first call."""
    state = _state(module)
    digest, imported = _meaning(module)
    _seen[module] = state, digest
    return digest, imported


def _meaning(module: str) -> tuple[str, frozenset[str]]:
    """Return the digest of a module's meaning and the names it imports, as its source is now.

    To parse all sources takes half a second, so what was read is kept where Python keeps compiled
    modules, under a digest of all it depends on and of itself: what is old or damaged does not fit.
    """
    source = _source(module)
    if source is None:
        raise ValueError(f"{module!r} is not a module of cf_pipeline: pass an asset's __name__.")
    text = source.read_bytes()
    kept = Path(cache_from_source(str(source), optimization="")).with_suffix(".meaning")
    with suppress(OSError, UnicodeDecodeError):
        seal, _, meaning = kept.read_text(encoding="utf-8").partition(" ")
        if seal == _seal(text, meaning):
            digest, *imported = meaning.split()
            return digest, frozenset(imported)
    digest, imports = _read(text)
    meaning = " ".join((digest, *sorted(imports)))
    if not sys.dont_write_bytecode:
        with suppress(OSError):  # an installation that may only be read
            kept.parent.mkdir(exist_ok=True)
            fresh = kept.with_suffix(f".{os.getpid()}")
            fresh.write_text(f"{_seal(text, meaning)} {meaning}", encoding="utf-8")
            fresh.replace(kept)
    return digest, imports


def _seal(source: bytes, meaning: str) -> str:
    return hashlib.sha256(b"\0".join((_own_source(), source, meaning.encode()))).hexdigest()


@cache
def _own_source() -> bytes:
    """Return the source of this module, which decides what a source means."""
    return Path(__file__).read_bytes()


def _read(source: bytes) -> tuple[str, frozenset[str]]:
    tree = _RunOnly().visit(ast.parse(source))
    imported = frozenset(_imports(tree))
    for node in ast.walk(tree):
        if isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ) and (ast.get_docstring(node, clean=False) is not None):
            del node.body[0]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), imported


class _RunOnly(ast.NodeTransformer):
    """Leaves out `if TYPE_CHECKING:`, which never runs."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return node.orelse
        return self.generic_visit(node)


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
                yield alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.level:
                raise ValueError(
                    f"The import from .{node.module} in line {node.lineno} is relative: name the "
                    "module in full, or its edits would go unnoticed."
                )
            yield node.module
            yield node.module.partition(".")[0]
            for alias in node.names:
                yield f"{node.module}.{alias.name}"
