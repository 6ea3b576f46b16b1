"""Many files are read by several processes, and the answers are those of one; an early end leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import profile as profiles
from pipeline.core.errors import WorldError
from pipeline.core.run import run
from pipeline.scan import readers, record, scan
from tests.scan import kit

pytestmark = pytest.mark.skipif(readers.processors() < 2, reason="needs two processors")


@pytest.fixture
def many(tmp_path: Path, plain: Path, rseq: Path) -> Path:
    """Programs, a cut one, others' files, links, a wheel, and a directory that cannot be looked into."""
    top = tmp_path / "many"
    for number in range(readers.LEAST_FILES):
        directory = top / f"{number % 7}"
        directory.mkdir(parents=True, exist_ok=True)
        source = rseq if number % 5 == 0 else plain
        data = source.read_bytes()
        (directory / f"{number}").write_bytes(data[:700] if number % 11 == 0 else data)
        (directory / f"{number}.txt").write_text("no ELF file")
    with zipfile.ZipFile(top / "a.whl", "w") as wheel:
        wheel.write(plain, "pkg/plain")
    (top / "link").symlink_to("0/1")
    return top


def test_several_processes_say_what_one_says(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = profiles.load("bookworm")
    asked = (profile, profile.names, (kit.ARCH.name,), [many, many / "0" / "1"])
    spread = record.to_json(scan(*asked))
    monkeypatch.setattr(readers, "processors", lambda: 1)
    assert record.to_json(scan(*asked)) == spread
    assert spread.count('"member"') == readers.LEAST_FILES + 2


def _who(_: int) -> int:
    return os.getpid()


def _ends(number: int) -> int:
    if number == 40:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_few_are_read_here_and_many_are_not() -> None:
    assert set(readers.spread(_who, range(10), lambda _: 1)) == {os.getpid()}
    others = set(readers.spread(_who, range(readers.LEAST_FILES), lambda _: 1))
    assert others
    assert os.getpid() not in others
    large = set(readers.spread(_who, range(2), lambda _: readers.LEAST_BYTES))
    assert os.getpid() not in large


def test_order_is_kept_and_nothing_is_lost() -> None:
    numbers: Iterator[int] = iter(range(5_000))
    assert list(readers.spread(abs, numbers, lambda n: n * 10_000)) == list(range(5_000))


def test_a_reader_that_was_killed_is_no_answer() -> None:
    with pytest.raises(WorldError, match="ended from outside"):
        list(readers.spread(_ends, range(1000), lambda _: 1))


SLOW = """
import time
from pipeline.scan import readers
def slow(n):
    time.sleep(0.2)
    return n
if __name__ == "__main__":
    print("begun", flush=True)
    list(readers.spread(slow, range(1000), lambda _: 1))
"""


def test_readers_end_with_who_started_them() -> None:
    with subprocess.Popen([sys.executable, "-c", SLOW], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"begun\n"
        listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        children: list[str] = []
        end = time.monotonic() + 60
        while len(children) < 2 and time.monotonic() < end:
            children = listed.read_text().split()
            time.sleep(0.05)
        assert children
        process.kill()
    end = time.monotonic() + 30
    while (alive := [c for c in children if _running(c)]) and time.monotonic() < end:
        time.sleep(0.05)
    assert alive == []


def _running(pid: str) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_scan_of_one_file_loads_nothing_that_builds(plain: Path) -> None:
    """What makes the first answer slow: libraries that scan has no use for."""
    code = (
        "import sys\nfrom pipeline.cli.scan import command\n"
        f"command.main([{str(plain)!r}], standalone_mode=False)\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & "
        "{'requests', 'jsonschema', 'matplotlib', 'jinja2', 'cryptography'}), "
        "'pipeline.build.builder' in sys.modules)"
    )
    done = run([sys.executable, "-c", code])
    assert done.text.splitlines()[-1] == "[] False"
