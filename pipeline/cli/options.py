"""Options that several verbs share, and what they mean."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import click
from click.core import ParameterSource

from pipeline import profile as profiles
from pipeline import source as sources
from pipeline.build import sharedcache
from pipeline.build.options import ForeignBuild, Options
from pipeline.core import paths
from pipeline.core.errors import UsageError
from pipeline.core.outcome import Target
from pipeline.core.progress import say
from pipeline.host import image as images
from pipeline.profile import MISSION, Outline, Profile
from pipeline.source import FetchedSource

if TYPE_CHECKING:
    from pipeline.build.builder import Builder
    from pipeline.build.checkout import Checkout

EMBEDDED = "bookworm"
PLACES = ("container", "host", "vm", "qemu-user")


_RELEASE = re.compile(r"^[0-9][0-9a-z.]*$")


@dataclass(frozen=True)
class Choice:
    """What the user chose. ``places`` and ``kernels`` are for `verify`; empty means the usual ones."""

    profile_name: str
    releases: tuple[str, ...]
    arches: tuple[str, ...]
    source: str
    build: Options
    places: tuple[str, ...]
    kernels: tuple[str, ...]

    def profile(self) -> tuple[Profile, str]:
        """The profile and, for ``auto``, why it is this one. Says so to the user."""
        if self.profile_name != "auto":
            return profiles.load(self.profile_name), ""
        mission = profiles.load(MISSION)
        if self.source:
            why = f"profile auto: {MISSION}, for a source was named"
            say(why)
            return mission, why
        reachable, reason = sources.available(mission)
        if reachable and not self.build.image and self.build.place == "container":
            reachable, about_image = images.available(mission)
            reason = f"{reason}; {about_image}"
        why = (
            f"profile auto: {MISSION}, which is at hand ({reason})"
            if reachable
            else f"profile auto: {EMBEDDED}, for {MISSION} is not at hand ({reason})"
        )
        say(why)
        return (mission if reachable else profiles.load(EMBEDDED)), why

    def outline(self) -> Outline:
        """The profile as far as its releases' ABI goes; unlike `profile` also one that is never built."""
        if self.profile_name == "auto":
            return self.profile()[0]
        return profiles.load_outline(self.profile_name)

    def targets(self, profile: Profile) -> list[Target]:
        """The chosen targets; raises `UsageError` for an unknown name."""
        return profiles.targets(profile, self.releases, self.arches)

    def builder(
        self, profile: Profile, distgits: Sequence[str] = (), lookaside: Sequence[Path] = ()
    ) -> Builder:
        """What builds the chosen targets; ``distgits`` as ``--distgit`` has them, fetched here.

        Raises what `pipeline.source.fetch` and `pipeline.build.checkout.fetch` raise, `UsageError` for a
        release named twice or not known.
        """
        from pipeline.build import checkout  # noqa: PLC0415  # `setup` chooses, too, and builds nothing
        from pipeline.build.builder import Builder  # noqa: PLC0415

        def fetched() -> FetchedSource:
            return sources.fetch(profile, self.source or None)

        if lookaside and not distgits:
            raise UsageError(
                "--lookaside is where --distgit looks for its tarball", hint="add --distgit, or leave it out"
            )
        theirs: dict[str, Checkout] = {}
        for release, where in (of_release("--distgit", t, self.releases) for t in distgits):
            profile.get(release)
            if release in theirs:
                raise UsageError(
                    f"two --distgit for release {release}", hint="a release has one; name another"
                )
            theirs[release] = checkout.fetch(where, lookaside)
        # with a dist-git that holds its tarball and is all that is built, the profile's source is not needed
        return Builder(profile, fetched if theirs else fetched(), self.build, theirs)


def of_release(option: str, text: str, releases: tuple[str, ...]) -> tuple[str, str]:
    """``RELEASE=WHERE``, or ``WHERE`` where exactly one ``--release`` says which; raises `UsageError`."""
    release, equals, where = text.partition("=")
    named = bool(equals and _RELEASE.match(release))
    if text and not (named and not where):
        if named:
            return release, where
        if len(releases) == 1:
            return releases[0], text
    missing = "where is it" if named else "which release is it"
    raise UsageError(
        f"{option} {text}: {missing}?", hint=f"write {option} RELEASE=WHERE, or add one --release"
    )


distgit_option = click.option(
    "--distgit",
    "distgits",
    multiple=True,
    metavar="[RELEASE=]DIR|SRPM|REPO@REF|REPO@BASE..BRANCH",
    help="Build that release from a dist-git, a source RPM or a branch of commits (repeatable).",
)
lookaside_option = click.option(
    "--lookaside",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the tarball of --distgit may be (repeatable).",
)


def check_settings(place: Literal["container", "host"]) -> None:
    """Refuse settings of the environment that would be found wrong only in the middle; `UsageError`."""
    for name, known in (
        ("PIPELINE_ENGINE", ("podman", "docker")),
        ("PIPELINE_SCRATCH", ("memory", "disk")),
        ("PIPELINE_TREES", ("yes", "no")),
    ):
        value = os.environ.get(name, "")
        if value and value not in known:
            raise UsageError(
                f"{name} is {' or '.join(known)}, not {value!r}", hint=f"correct it, or unset {name}"
            )
    state = str(paths.state())
    if place == "container" and ":" in state:
        raise UsageError(
            f"{state}: a container engine takes ':' for the end of a directory's name",
            hint="point PIPELINE_STATE at another directory",
        )
    if place == "host" and re.search(r"\s", state):
        raise UsageError(
            f"{state}: rpmbuild and configure take a blank for the end of a directory's name",
            hint="point PIPELINE_STATE at another directory, or build in a container",
        )


#: Which of the shared options each verb uses; ``verify`` uses all of them.
_BUILDS = frozenset({"profile", "arches", "source", "image", "places", "aarch64_build", "shared_cache"})
USES: Mapping[str, frozenset[str]] = {
    "setup": frozenset({"profile", "source", "image", "places"}),
    "build": _BUILDS | {"releases", "up_to", "own_tests"},
    "verify": _BUILDS | {"releases", "up_to", "own_tests", "kernels"},
    "baseline": _BUILDS | {"releases", "up_to"},
    "bench": _BUILDS,
    "known-bad": _BUILDS | {"kernels"},
}
#: Verbs that one command line is given to (`nox -s setup build verify -- OPTIONS`); noxfile.py sets it.
BESIDE = "PIPELINE_BESIDE"


def _refuse_unused(verb: str) -> None:
    """Raise `UsageError` for a shared option that this verb, and every verb beside it, would ignore."""
    context = click.get_current_context()
    beside = {verb, *os.environ.get(BESIDE, "").split()}
    used = frozenset[str]().union(*(USES.get(name, frozenset()) for name in beside))
    for parameter in context.command.params:
        name = parameter.name or ""
        shared = any(name in of for of in USES.values())
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if shared and given and name not in used:
            verbs = ", ".join(v for v, of in USES.items() if name in of)
            raise UsageError(
                f"{verb} has no use for {parameter.opts[0]}", hint=f"leave it out; it is for: {verbs}"
            )


def choice_options(verb: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the shared options to a verb's command and hand them over as ``choice``.

    A verb takes them all, for one command line may be for several verbs; those that none of these uses are
    refused.
    """
    return functools.partial(_with_choice, verb)


def _with_choice(verb: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @click.option(
        "--profile", "profile", default="auto", metavar="NAME|FILE", help="auto, el9, bookworm, a TOML file."
    )
    @click.option("--release", "releases", multiple=True, metavar="R", help="Only this release (repeatable).")
    @click.option("--arch", "arches", multiple=True, metavar="A", help="Only this architecture (repeatable).")
    @click.option(
        "--source",
        default="",
        metavar="KIND:WHERE",
        help="Another source: dir:PATH, git:REPO@REF, tarball:PATH|URL.",
    )
    @click.option("--image", default="", metavar="REF", help="Another base for the build image.")
    @click.option(
        "--place",
        "places",
        multiple=True,
        metavar="PLACE",
        help="container, host, vm, qemu-user, ssh:USER@HOST (repeatable); host also builds on the host.",
    )
    @click.option("--kernel", "kernels", multiple=True, metavar="NAME|FILE", help="Kernels for --place vm.")
    @click.option(
        "--aarch64-build", type=click.Choice(["auto", "cross", "emulated"]), default="auto", show_default=True
    )
    @click.option("--up-to", default="", metavar="PATCH", help="Stop each series after this patch.")
    @click.option(
        *(("--own-tests",) if verb == "setup" else ("--own-tests", "--check")),
        "own_tests",
        is_flag=True,
        help="Run glibc's own rseq tests and ABI check in the build.",
    )
    @click.option(
        "--ccache-remote", "shared_cache", default="", metavar="URL", envvar=sharedcache.VARIABLE,
        help="A compiler cache to share: redis://HOST or http://HOST/PATH (recorded as not hermetic).",
    )  # fmt: skip
    @functools.wraps(function)
    def wrapper(
        *args: Any,
        profile: str,
        releases: tuple[str, ...],
        arches: tuple[str, ...],
        source: str,
        image: str,
        places: tuple[str, ...],
        kernels: tuple[str, ...],
        aarch64_build: str,
        up_to: str,
        own_tests: bool,
        shared_cache: str,
        **kwargs: Any,
    ) -> Any:
        _refuse_unused(verb)
        for place in places:
            kind, _, machine = place.partition(":")  # ssh would take a machine "-x" for an option
            if place not in PLACES and (kind != "ssh" or machine[:1] in ("", "-")):
                raise UsageError(
                    f"there is no place {place!r}", hint=f"places: {', '.join(PLACES)}, ssh:USER@HOST"
                )
        if shared_cache:
            sharedcache.parse(shared_cache)
        build_place: Literal["container", "host"] = "host" if "host" in places else "container"
        check_settings(build_place)
        options = Options(
            place=build_place,
            foreign=cast(ForeignBuild, aarch64_build),
            image=image,
            up_to=up_to,
            check=own_tests,
            shared_cache=shared_cache,
        )
        choice = Choice(profile, releases, arches, source, options, places, kernels)
        return function(*args, choice=choice, **kwargs)

    return wrapper
