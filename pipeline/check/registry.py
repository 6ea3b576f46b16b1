"""All checks, in the order of the report. A new check is added here and nowhere else."""

from __future__ import annotations

from pipeline.check import (
    PlaceCheck,
    StaticCheck,
    abi,
    abi_details,
    abi_lookup,
    abi_private,
    abi_tunables,
    announced,
    contexts,
    critical,
    debug_packages,
    devel,
    fallback,
    getcpu,
    guards,
    launch,
    launch_needs,
    made_with,
    order,
    origin,
    own_programs,
    own_tests,
    ownership,
    packages,
    pages,
    rebuilt,
    refusal,
    registration,
    relro,
    rpm,
    secure,
    speed,
    static,
    texts,
    updating,
)
from pipeline.core.declaration import Declaration

STATIC: tuple[StaticCheck, ...] = (
    *abi.CHECKS,
    *abi_lookup.CHECKS,
    *abi_details.CHECKS,
    *abi_private.CHECKS,
    *abi_tunables.CHECKS,
    *pages.CHECKS,
    *rpm.CHECKS,
    *packages.CHECKS,
    *debug_packages.CHECKS,
    *origin.CHECKS,
    *updating.CHECKS,
    *texts.CHECKS,
    *devel.CHECKS,
    *launch_needs.CHECKS,
    own_tests.OwnTests(),
    *rebuilt.CHECKS,
)
WATCHED: tuple[PlaceCheck, ...] = (
    *registration.CHECKS,
    *relro.CHECKS,
    *static.CHECKS,
    *contexts.CHECKS,
    *secure.CHECKS,
    *announced.CHECKS,
    *refusal.CHECKS,
    *ownership.CHECKS,
    *critical.CHECKS,
    *getcpu.CHECKS,
    *fallback.CHECKS,
    *speed.CHECKS,
    *launch.CHECKS,
    *order.CHECKS,
    *own_programs.CHECKS,
    *guards.CHECKS,
    *made_with.CHECKS,
)


def declarations() -> tuple[Declaration, ...]:
    """What every check says of itself, in the order of the report."""
    return tuple(check.declared for check in (*STATIC, *WATCHED))
