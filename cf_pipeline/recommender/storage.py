"""Room for what grows with the ratings: in memory, or in temporary files."""

from __future__ import annotations

import tempfile

import numpy as np
import torch

GIB = 1 << 30
ZEROS = bytes(1 << 20)


def empty(n: int, dtype: torch.dtype, device: torch.device | None) -> torch.Tensor:
    """Return a tensor (n,) of `dtype` on the device, or in a temporary file if there is none.

    The file is in `tempfile.gettempdir()`, and has no name: whatever ends the process ends it too.
    What is read or written of it is in memory as long as the system has room to spare; where the
    folder is a tmpfs, as /tmp may be, all of it is: name one on a disk in TMPDIR.

    Raises:
        OSError: there is no room for the file.
    """
    if device is not None:
        return torch.empty(n, dtype=dtype, device=device)
    kind = torch.empty(0, dtype=dtype).numpy().dtype
    length = max(1, n * kind.itemsize)  # an empty file cannot be mapped
    try:
        with tempfile.TemporaryFile() as file:
            # To lack room here is an error; to lack it later, in a file of holes, is a SIGBUS.
            for start in range(0, length, len(ZEROS)):
                file.write(ZEROS[: length - start])
            bytes_ = np.memmap(file, np.uint8, mode="r+", shape=(length,))
    except OSError as error:
        raise OSError(
            error.errno,
            f"There is no room for {length / GIB:.2g} GiB of temporary files in "
            f"{tempfile.gettempdir()} ({error.strerror}): name a larger place in TMPDIR, or raise "
            "memory_gib, so that ratings stay in memory.",
        ) from error
    return torch.from_numpy(bytes_)[: n * kind.itemsize].view(dtype)
