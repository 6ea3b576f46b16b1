"""The runner itself: what it is given reaches the job byte by byte, and a job file that is cut is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.core.arch import host_arch
from pipeline.place import Job
from pipeline.place.batch import encode_jobs
from pipeline.place.host import HostPlace
from tests.integration import probe_bench as kit

pytestmark = pytest.mark.integration

#: Prints all its bytes: arguments, environment, what it may read, where it is and which signals are blocked.
SHOW = r"""
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
extern char **environ;
static void hex (const char *name, char **list)
{
  printf ("\"%s\":[", name);
  for (int i = 0; list[i]; i++)
    {
      printf (i ? ",\"" : "\"");
      for (const char *p = list[i]; *p; p++)
        printf ("%02x", (unsigned char) *p);
      printf ("\"");
    }
  printf ("],");
}
int main (int argc, char **argv)
{
  char byte, cwd[4096];
  int open_files = 0, blocked = 0;
  sigset_t set;
  (void) argc;
  putchar ('{');
  hex ("argv", argv);
  hex ("env", environ);
  for (int fd = 3; fd < 1024; fd++)
    open_files += fcntl (fd, F_GETFD) != -1;
  sigprocmask (SIG_BLOCK, NULL, &set);
  for (int s = 1; s < 32; s++)
    blocked += sigismember (&set, s) || signal (s, SIG_DFL) == SIG_IGN;
  printf ("\"read\":%d,\"cwd\":\"%s\",\"open\":%d,\"blocked\":%d,\"leader\":%d}\n",
          (int) read (0, &byte, 1), getcwd (cwd, sizeof cwd), open_files, blocked, getpgrp () == getpid ());
  return 0;
}
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("programs")
    kit.compile_one(host_arch(), kit.paths.PROBES / "runner.c", into / "runner", "-static")
    (into / "show.c").write_text(SHOW)
    kit.compile_one(host_arch(), into / "show.c", into / "show", "-static")
    return into


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("root")
    (into / "probes").mkdir()
    return into


TEXT = st.text(st.characters(blacklist_characters="\0", codec="utf-8"), max_size=40)
NAME = st.text(st.characters(blacklist_characters="\0=", codec="utf-8"), min_size=1, max_size=12)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ident=NAME, args=st.lists(TEXT, max_size=5), env=st.dictionaries(NAME, TEXT, max_size=5))
def test_what_is_given_arrives(
    ident: str, args: list[str], env: dict[str, str], root: Path, programs: Path
) -> None:
    job = Job(ident, "r", (f"{kit.PROBES}/show", *args), env)
    batch = HostPlace(programs / "runner").run_batch({"r": root}, {kit.PROBES: programs}, [job])
    assert batch.trouble == ""
    [seen] = batch.results[ident].lines()
    assert [bytes.fromhex(a).decode() for a in seen["argv"]] == list(job.argv)
    assert [bytes.fromhex(e).decode() for e in seen["env"]] == [f"{k}={v}" for k, v in env.items()]
    assert seen["read"] == 0  # no standard input
    assert seen["cwd"] == "/"
    assert seen["leader"] == 1
    assert (seen["open"], seen["blocked"]) == (0, 0)  # nothing of the runner's own leaks into a job


def refused(programs: Path, tmp_path: Path, jobs: bytes) -> str:
    (tmp_path / "jobs").write_bytes(jobs)
    argv = [f"{programs}/runner", "--jobs", f"{tmp_path}/jobs", "--out", f"{tmp_path}/out"]
    done = kit.run(argv, success_codes=None)
    assert done.returncode == 2
    assert not (tmp_path / "out").exists()
    return done.stderr.decode()


def test_a_job_file_that_is_cut_is_refused(programs: Path, tmp_path: Path) -> None:
    whole = encode_jobs([Job("a", "r", ("/x",)), Job("b", "r", ("/x", "y"))])
    lines = whole.splitlines(keepends=True)
    for n in range(1, len(lines)):
        assert "cut short" in refused(programs, tmp_path, b"".join(lines[:n]))
    assert "cut short" in refused(programs, tmp_path, whole.replace(b"end 2", b"end 3"))


@pytest.mark.parametrize(
    ("jobs", "words"),
    [
        (b"", "not a job file"),
        (b"jobs 2\nend 0\n", "not a job file"),
        (b"jobs 1\nroot r\nend 0\n", "before the first job"),
        (b"jobs 1\njob a\nwhat x\nend 1\n", "unknown word"),
        (b"jobs 1\nend 0\njob a\n", "no job file line"),
    ],
)
def test_a_job_file_that_is_none(jobs: bytes, words: str, programs: Path, tmp_path: Path) -> None:
    assert words in refused(programs, tmp_path, jobs)


def test_it_needs_its_options(programs: Path) -> None:
    for options in ("", "--jobs x", "--jobs x --out y --what z", "--jobs"):
        assert kit.run([str(programs / "runner"), *options.split()], success_codes=None).returncode == 2
