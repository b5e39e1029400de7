"""An S3-compatible server on a free loopback port: moto's, in a process of its own."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import requests

BUCKET = "shared"


def variables(port: int) -> dict[str, str]:
    """The environment that leads S3 clients to the server on `port`."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "some-key",
        "AWS_SECRET_ACCESS_KEY": "some-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",  # of which s3fs makes several
    }


@contextmanager
def s3_server(port: int) -> Iterator[None]:
    """Run the server, with an empty bucket `shared`, while the block lasts."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_up(port, process)
        requests.put(f"http://127.0.0.1:{port}/{BUCKET}", timeout=10).raise_for_status()
        yield
    finally:
        process.terminate()
        process.wait()


def _wait_until_up(port: int, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionError:
            assert process.poll() is None, "the S3 server ended before it answered"
            time.sleep(0.1)
        else:
            return
    raise TimeoutError("The S3 server does not answer.")
