"""A real Redis for tests."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.core.run import run, running


@contextmanager
def running_redis(directory: Path) -> Iterator[int]:
    """A Redis that keeps nothing on disk, on loopback, for the time of the block; its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    argv = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no",
            "--dir", str(directory), "--daemonize", "no"]  # fmt: skip
    with running(argv) as process:
        end = time.monotonic() + 30
        while True:
            assert process.poll() is None, "redis-server ended"
            assert time.monotonic() < end, "redis-server does not answer"
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield port


def objects(port: int) -> int:
    """How many objects Redis holds."""
    return int(run(["redis-cli", "-h", "127.0.0.1", "-p", str(port), "dbsize"]).text.split()[-1])
