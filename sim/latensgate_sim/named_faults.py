"""The fault switches of the command line: what a developer can break on purpose, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from latensgate_sim.errors import AWSError
from latensgate_sim.faults import Fault, FaultKind
from latensgate_sim.world import ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from latensgate_sim.world import World

_SLOW_S: Final = 5.0
_CUT_AFTER_EVENTS: Final = 3


def _throttled(world: World) -> None:
    error = AWSError(429, "ThrottlingException", "Too many requests, please wait.")
    world.home.bedrock.faults.on(Fault(FaultKind.ERROR, error, times=None))


def _slow(world: World) -> None:
    world.home.bedrock.faults.on(Fault(FaultKind.SLOW, seconds=_SLOW_S, times=None))


def _cut(world: World) -> None:
    switch = world.home.bedrock.faults
    cut = Fault(FaultKind.CUT, operation="Converse", times=None)
    switch.on(cut)
    switch.on(Fault(FaultKind.CUT, after_events=_CUT_AFTER_EVENTS, times=None))


def _garbage(world: World) -> None:
    world.home.bedrock.faults.on(Fault(FaultKind.GARBAGE, times=None))


def _kms_denied(world: World) -> None:
    error = AWSError(400, "AccessDeniedException", "simulated by a fault switch")
    world.home.kms.faults.on(Fault(FaultKind.ERROR, error, operation="Decrypt", times=None))


def _kms_down(world: World) -> None:
    world.home.kms.faults.on(Fault(FaultKind.CUT, times=None))


def _logging_on(world: World) -> None:
    world.home.control.logging_accounts.add(ACCOUNT)


def _sts_down(world: World) -> None:
    world.home.sts.faults.on(Fault(FaultKind.CUT, times=None))


NAMED_FAULTS: Final[Mapping[str, Callable[[World], None]]] = {
    "bedrock-throttled": _throttled,
    "bedrock-slow": _slow,
    "bedrock-cut": _cut,
    "bedrock-garbage": _garbage,
    "kms-denied": _kms_denied,
    "kms-down": _kms_down,
    "logging-on": _logging_on,
    "sts-down": _sts_down,
}
"""Each stays on until the stack ends; it is switched on after the first chat."""
