"""What a build sees of where, when and by whom it is made; none of it may be seen in what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

#: Where a container has the directory of a build.
DIRECTORY = "/build"
#: The library that is preloaded into the programs of a rebuild.
SHIM = Path(__file__).with_name("vary.c")
#: What the build saw, a line each: ``NAME=VALUE``.
SEEN = "conditions.seen"

#: Writes the file of what is seen, and becomes the build. It runs under the conditions, so that it cannot say
#: more than was done. The order of files is that of a directory which is made for it.
_SEE = r"""
mkdir -p tmp/order
(cd tmp/order && for name in a b c d e; do : > $name; done)
{ echo "time=$(date -u +%FT%TZ)"; echo "directory=$PWD"; echo "host=$(uname -n)"; echo "kernel=$(uname -rv)"
  echo "processors=$(nproc)"; echo "user=$(id -u)"; echo "group=$(id -g)"; echo "umask=$(umask)"
  echo "home=$HOME"; echo "path=$PATH"; echo "locale=$(locale charmap)"; echo "time zone=$TZ"
  echo "jobs=$GLIBC_BUILD_JOBS"; echo "order of files=$(cd tmp/order && echo $(ls -U))"
  echo "processor features hidden=$GLIBC_TUNABLES"; } > conditions.seen
rm -r tmp/order
exec "$@"
"""

#: $0 is the build's directory; the rest is what to run. An engine without further user ids keeps the user it
#: has: then the file says so.
_ORDINARY = f'set -e\ncd "$0"\n{_SEE}'
_VARIED = f"""
set -e
gcc -shared -fPIC -O1 -o "$0/vary.so" "$0/vary.c"
umask @UMASK@
[ "$(locale charmap)" = UTF-8 ] && LC_ALL=C || LC_ALL=C.UTF-8
export LC_ALL
export TMPDIR="$0/tmp" PATH="$PATH:@PATH@"
within='{_SEE}'
cd "$0"
if [ "$(id -u)" = 0 ] && chown -R @USER@:@USER@ "$0" 2>/dev/null; then
  status=0
  LD_PRELOAD="$0/vary.so" setpriv --reuid=@USER@ --regid=@USER@ --clear-groups \\
    sh -ec "$within" "$0" "$@" || status=$?
  chown -R 0:0 "$0"
  exit $status
fi
LD_PRELOAD="$0/vary.so" exec sh -ec "$within" "$0" "$@"
"""


@dataclass(frozen=True)
class Conditions:
    """The conditions of one build in a container.

    ``directory``: where the container has the build. ``host``: the container's name, "" for one of the
    engine's. ``user``: the number of the user and the group it runs as; 0: all is as the engine has it.
    ``path``: what PATH ends in. ``env`` is added to the environment. ``more_jobs``: parallel runs beside
    those of every build.
    """

    directory: str
    host: str = ""
    user: int = 0
    umask: str = ""
    path: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    more_jobs: int = 0

    def command(self, where: str, argv: list[str]) -> list[str]:
        """What runs ``argv`` under them in the build's directory ``where``, and writes what is seen there."""
        if not self.user:
            return ["sh", "-c", _ORDINARY, where, *argv]
        script = _VARIED
        for name, value in (("UMASK", self.umask), ("USER", str(self.user)), ("PATH", self.path)):
            script = script.replace(f"@{name}@", value)
        return ["sh", "-c", script, where, *argv]

    @staticmethod
    def seen(top: Path) -> dict[str, str]:
        """What the build below ``top`` saw, by name; empty if it did not come so far."""
        file = top / SEEN
        lines = file.read_text().splitlines() if file.is_file() else []
        return {name: value for name, _, value in (line.partition("=") for line in lines)}


def unlike(one: datetime, other: datetime) -> bool:
    """Whether two moments have neither year nor month, day nor weekday in common."""
    return all(a != b for a, b in zip(one.timetuple()[:3], other.timetuple()[:3], strict=True)) and (
        one.weekday() != other.weekday()
    )


#: Every build's: root, umask 022, UTC; the locale of the image; the machine's date, kernel, processors and
#: order of files.
ORDINARY = Conditions(directory=DIRECTORY)
#: Nothing of an ordinary build's. (rpm sets its own umask again for what the spec runs. The features of the
#: processor that are hidden from the C library are x86's; elsewhere it is none. What is not said here is in
#: `SHIM`.)
OTHERS = Conditions(
    # as long as `DIRECTORY`: debugedit (5.0) replaces it in debug information, but the build ids that it then
    # makes still tell how long the name was
    directory="/a/b/c",
    host="another-host",
    user=4711,
    umask="0027",
    path="/opt/elsewhere/bin",
    env={
        "TZ": "LATE-14",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-ERMS,-FSRM",
        "HOME": "/nonexistent",
        "USER": "somebody",
        "CCACHE_DISABLE": "1",
    },
    more_jobs=2,
)


def others(first: str) -> Conditions:
    """`OTHERS` on a date that is `unlike` the one at which the ``first`` build began (UTC; "": not known)."""
    now = datetime.now(UTC)
    before = datetime.fromisoformat(first) if first else now
    days = next(n for n in range(400, 800) if unlike(before, now + timedelta(days=n, seconds=12345)))
    return replace(OTHERS, env={**OTHERS.env, "VARY_DAYS": str(days)})
