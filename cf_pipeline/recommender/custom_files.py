"""Anybody's own tables of ratings and of what is rated: text or parquet, read in bounded memory.

`receive` copies them as they are; everything else reads the copies. What is wrong with a table is
said by a CustomTableError, which names the file, the row where there is one, and what to do.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from cf_pipeline.recommender.downloads import redacted, sha256

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cf_pipeline.recommender.custom_settings import CustomTableSettings

SEPARATORS = {".csv": ",", ".tsv": "\t"}
KINDS = (*SEPARATORS, ".parquet")
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
TEXT_BYTES_AT_ONCE = 4 << 20
ROWS_AT_ONCE = 1 << 18
MISSING = "missing"
HTTP_VERSIONS = ("ETag", "Last-Modified", "Content-MD5", "Digest")  # headers


class CustomTableError(ValueError):
    """A table cannot be read as its settings say."""


def receive(path: str, staging: Path, prefix: str) -> list[str]:
    """Copy the files at `path` into `staging`, and return their names there, in order.

    A name is the `prefix`, a number, and the file's own name. `path` is a file, a folder, whose
    files count in the order of their paths, hidden ones left out, or an address of fsspec.

    Raises:
        CustomTableError: nothing is there that can be read, or kinds of file are mixed.
    """
    file_system, files = _files(path)
    names = []
    for number, file in enumerate(files):
        names.append(f"{prefix}-{number:09d}-{PurePosixPath(file).name}")
        try:
            file_system.get_file(file, str(staging / names[-1]))
        except Exception as error:  # each file system has its own
            raise CustomTableError(_unreachable(file, error)) from error
    return names


def fingerprint(path: str) -> str:
    """Return what tells the content of the files at `path`; MISSING if there are none.

    Of local files it is their SHA-256; of others what their file system tells without reading them,
    such as an ETag.
    """
    try:
        file_system, files = _files(path)
        if "file" in file_system.protocol:
            tokens = [f"{PurePosixPath(file).name} {sha256(Path(file))}" for file in files]
        else:
            tokens = [f"{file} {_version(file_system, file)}" for file in files]
    except (CustomTableError, OSError):
        return MISSING
    return hashlib.sha256("\n".join(tokens).encode()).hexdigest()


def last_change(path: str) -> float:
    """Return when the files at `path` last changed, in seconds since 1970; 0 if that is not told.

    Raises:
        CustomTableError: nothing is there, or no longer.
    """
    file_system, files = _files(path)
    try:
        return max(float(file_system.modified(file).timestamp()) for file in files)
    except NotImplementedError:
        return 0.0
    except Exception as error:  # each file system has its own
        raise CustomTableError(_unreachable(path, error)) from error


def read_batches(
    files: Sequence[Path], settings: CustomTableSettings, types: Mapping[str, pa.DataType | None]
) -> Iterator[tuple[Path, int, pa.RecordBatch]]:
    """Yield a table's rows: the file, the number of the first row there from 0, and its columns.

    `types` has the columns wanted, and what text is read as; parquet comes in its own types, and
    text without a type as strings, an empty cell as null. Memory is bounded by the longest row.

    Raises:
        CustomTableError: a column is missing, or a row cannot be read.
    """
    for file in files:
        start = 0
        try:
            for batch in _batches(file, settings, types):
                yield file, start, batch
                start += batch.num_rows
        except (pa.ArrowException, OSError, KeyError) as error:
            cause = str(error.args[0] if error.args else error).rstrip(".")
            raise CustomTableError(
                f"{file.name} cannot be read: {cause}. Correct the file, or the column names, "
                "header and separator in the config."
            ) from error


def kind_of(name: str) -> str | None:
    """Return the suffix that tells how a file is written, None if it is not known here."""
    path = PurePosixPath(name.lower())
    if path.suffix in COMPRESSIONS and PurePosixPath(path.stem).suffix in SEPARATORS:
        return PurePosixPath(path.stem).suffix
    return path.suffix if path.suffix in KINDS else None


def refused(file: Path, row: int, cause: str) -> CustomTableError:
    """Return the error for row `row` of a file, counted from 0 after the header."""
    return CustomTableError(
        f"{file.name}, row {row + 1}: {cause}. Correct the row, or leave it out."
    )


def _batches(
    file: Path, settings: CustomTableSettings, types: Mapping[str, pa.DataType | None]
) -> Iterator[pa.RecordBatch]:
    kind = kind_of(file.name)
    if kind == ".parquet":
        with pq.ParquetFile(file) as table:
            _check_names(table.schema_arrow.names, types)
            for batch in table.iter_batches(ROWS_AT_ONCE, columns=list(types)):
                yield batch.select(list(types))
        return
    names: list[str] = []
    try:
        with _text(file, settings, csv.ConvertOptions()) as header:
            names = header.schema.names
        _check_names(names, types)
        convert = csv.ConvertOptions(
            include_columns=list(types),
            column_types={name: of or pa.string() for name, of in types.items()},
            null_values=[""],
            strings_can_be_null=True,
        )
        with _text(file, settings, convert) as text:
            yield from text
    except pa.ArrowInvalid as error:
        raise pa.ArrowInvalid(_in_our_words(str(error), names, settings.header)) from error


@contextmanager
def _text(
    file: Path, settings: CustomTableSettings, convert: csv.ConvertOptions
) -> Iterator[csv.CSVStreamingReader]:
    # Arrow itself would know no suffix in capitals.
    codec = COMPRESSIONS.get(file.suffix.lower())
    with pa.input_stream(file, compression=codec) as stream:
        yield csv.open_csv(
            stream,
            # Without threads, errors have the number of the line.
            csv.ReadOptions(
                use_threads=False,
                block_size=TEXT_BYTES_AT_ONCE,
                autogenerate_column_names=not settings.header,
            ),
            csv.ParseOptions(
                delimiter=settings.separator or SEPARATORS[kind_of(file.name) or ".csv"],
                newlines_in_values=True,
            ),
            convert,
        )


def _check_names(names: Sequence[str], wanted: Iterable[str]) -> None:
    """Raise KeyError unless each of the columns `wanted` is there, and once."""
    if missing := sorted(set(wanted) - set(names)):
        raise KeyError(f"columns {missing} are not among {names[:50]}")
    if twice := [name for name in wanted if names.count(name) > 1]:
        raise KeyError(f"columns {twice} are there twice")


def _in_our_words(said: str, names: Sequence[str], header: bool) -> str:
    """Return what Arrow says of a text with columns by their names, and rows as `refused` counts.

    Arrow counts columns from 0, and as the first row the header. What follows may quote anything.
    """
    if column := re.match(r"In CSV column #(\d+)", said):
        said = f"In column {names[int(column[1])]!r}{said[column.end() :]}"
    return re.sub(r"Row #(\d+)", lambda found: f"row {int(found[1]) - header}", said, count=1)


def address_of(path: str) -> str:
    """Return a path as an address of fsspec.

    Raises:
        CustomTableError: it is empty, or has a user, a password or a query; the message does not
            tell them.
    """
    if not path:
        raise CustomTableError("The path of a table is empty: give that of a file or a folder.")
    if "://" not in path:
        return str(Path(path).expanduser().absolute())
    if redacted(path) != path:
        raise CustomTableError(
            f"{redacted(path)} has a user, a password or a query, which Dagster would keep in "
            "its history: give the address without, and credentials in the environment."
        )
    return path


def _version(file_system: Any, file: str) -> str:
    """Return what a file system tells of a file's content, CustomTableError if it is nothing."""
    if "http" not in file_system.protocol:
        return str(file_system.ukey(file))
    info = file_system.info(file)  # the key would be of the address alone
    told = {name: info[name] for name in HTTP_VERSIONS if name in info}
    if not told:
        raise CustomTableError(
            f"The server of {file} does not tell when it changes, by none of "
            f"{', '.join(HTTP_VERSIONS)}: download it, and give the path."
        )
    return f"{told} {info['size']}"


def _files(path: str) -> tuple[Any, list[str]]:
    """Return a file system, and the files at `path` on it that can be read."""
    from fsspec.core import url_to_fs

    address = address_of(path)
    try:
        file_system, root = url_to_fs(address)
        file_system.invalidate_cache()  # it would never hear of a change
        is_folder = file_system.isdir(root)
        files = sorted(file_system.find(root)) if is_folder else [root]
        there = is_folder or file_system.exists(root)
    except Exception as error:  # each file system has its own
        raise CustomTableError(_unreachable(address, error)) from error
    if is_folder:
        inside = [(file, PurePosixPath(file).relative_to(PurePosixPath(root))) for file in files]
        files = [file for file, name in inside if not any(part[0] in "._" for part in name.parts)]
    kinds = {kind_of(file) for file in files}
    if not there or not files or None in kinds or len(kinds) > 1:
        found = f"{[PurePosixPath(file).name for file in files[:20]]}" if there else "nothing"
        raise CustomTableError(
            f"At {path} there is {found}: give a file or a folder of one kind, {', '.join(KINDS)}, "
            f"where text may be compressed ({', '.join(COMPRESSIONS)})."
        )
    if "http" in file_system.protocol:
        for file in files:
            _version(file_system, file)
    return file_system, files


def _unreachable(path: str, error: Exception) -> str:
    return (
        f"{path} cannot be read ({type(error).__name__}: {redacted(str(error))}). Look at the "
        "path, the permissions and the credentials; an address may take a library of its own, as "
        "s3:// takes s3fs: pip install 'cf_pipeline[s3]'."
    )
