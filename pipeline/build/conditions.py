"""What a build sees of where, when and by whom it is made; none of it may be seen in what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

#: The library that is preloaded into the programs of a rebuild.
SHIM = Path(__file__).with_name("vary.c")
#: What the build saw, a line each: ``NAME=VALUE``.
SEEN = "conditions.seen"

#: $0 is the build's directory; the rest is what to run. The file of what was seen is written by what runs
#: under the conditions, so that it cannot say more than was done. An engine without further user ids keeps
#: the user it has.
_RUN = r"""
set -e
gcc -shared -fPIC -O1 -o "$0/vary.so" "$0/vary.c"
umask @UMASK@
export TMPDIR="$0/tmp"
within='
  { echo "time=$(date -u +%FT%TZ)"; echo "host=$(uname -n)"; echo "user=$(id -u)"; echo "umask=$(umask)"
    echo "locale=$LC_ALL"; echo "time zone=$TZ"; echo "jobs=$GLIBC_BUILD_JOBS"
    echo "order of files=backwards"; echo "processor features hidden=$GLIBC_TUNABLES"; } > conditions.seen
  exec "$@"'
cd "$0"
if [ "$(id -u)" = 0 ] && chown -R @USER@:@USER@ "$0" 2>/dev/null; then
  status=0
  LD_PRELOAD="$0/vary.so" setpriv --reuid=@USER@ --regid=@USER@ --clear-groups \
    sh -c "$within" "$0" "$@" || status=$?
  chown -R 0:0 "$0"
  exit $status
fi
LD_PRELOAD="$0/vary.so" exec sh -c "$within" "$0" "$@"
"""


@dataclass(frozen=True)
class Conditions:
    """The conditions of one build in a container.

    ``host``: the container's name. ``user``: the number of the user it runs as. ``env`` is added to the
    environment. ``more_jobs``: parallel runs beside those of every build.
    """

    host: str
    user: int
    umask: str
    env: Mapping[str, str] = field(default_factory=dict)
    more_jobs: int = 0

    def command(self, where: str, argv: list[str]) -> list[str]:
        """What runs ``argv`` under them in the build's directory ``where``."""
        script = _RUN.replace("@UMASK@", self.umask).replace("@USER@", str(self.user))
        return ["sh", "-c", script, where, *argv]

    @staticmethod
    def seen(top: Path) -> dict[str, str]:
        """What the build below ``top`` saw, by name; empty if it did not come so far."""
        file = top / SEEN
        lines = file.read_text().splitlines() if file.is_file() else []
        return {name: value for name, _, value in (line.partition("=") for line in lines)}


#: Nothing of an ordinary build's: root, umask 022, no locale, UTC, the machine's date and order of files.
#: (rpm sets its own umask again for what the spec runs. The features of the processor that are hidden from
#: the C library are x86's; elsewhere it is none.)
OTHERS = Conditions(
    host="another-host",
    user=4711,
    umask="0027",
    env={
        "LC_ALL": "C.UTF-8",
        "TZ": "LATE-14",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-ERMS,-FSRM",
        "HOME": "/nonexistent",
        "USER": "somebody",
        "CCACHE_DISABLE": "1",
    },
    more_jobs=2,
)
