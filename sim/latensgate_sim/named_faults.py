"""The fault switches of the command line: what a developer can break on purpose, by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from latensgate_sim.errors import AWSError
from latensgate_sim.faults import Fault, FaultKind
from latensgate_sim.world import ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from latensgate_sim.world import World

    Broken = Callable[[World], None]

_SLOW_S: Final = 5.0


class UnknownUpstreamError(Exception):
    """A fault of a server that this stack has not."""


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


def _refused(code: str, status: int, text: str, after_events: int | None = None) -> Broken:
    def on(world: World) -> None:
        error = AWSError(status, code, text)
        fault = Fault(FaultKind.ERROR, error, after_events=after_events, times=None)
        world.home.bedrock.faults.on(fault)

    return on


def _ends_early(world: World) -> None:
    fault = Fault(FaultKind.END, operation="ConverseStream", after_events=_CUT_AFTER_EVENTS)
    world.home.bedrock.faults.on(replace(fault, times=None))


def _kms_denied(world: World) -> None:
    error = AWSError(400, "AccessDeniedException", "simulated by a fault switch")
    world.home.kms.faults.on(Fault(FaultKind.ERROR, error, operation="Decrypt", times=None))


def _kms_down(world: World) -> None:
    world.home.kms.faults.on(Fault(FaultKind.CUT, times=None))


def _logging_on(world: World) -> None:
    world.home.control.logging_accounts.add(ACCOUNT)


def _sts_down(world: World) -> None:
    world.home.sts.faults.on(Fault(FaultKind.CUT, times=None))


def _openai(world: World, fault: Fault) -> None:
    if world.config.openai is None:
        raise UnknownUpstreamError("there is no OpenAI-compatible upstream; name an --openai-alias")
    world.config.openai.faults.on(fault)


def _openai_throttled(world: World) -> None:
    error = AWSError(429, "rate_limit_exceeded", "Rate limit reached.")
    _openai(world, Fault(FaultKind.ERROR, error, times=None))


def _openai_down(world: World) -> None:
    _openai(world, Fault(FaultKind.ERROR, AWSError(500, "server_error", "Oops."), times=None))


def _openai_cut(world: World) -> None:
    _openai(world, Fault(FaultKind.CUT, operation="unary", times=None))
    _openai(world, Fault(FaultKind.CUT, after_events=_CUT_AFTER_EVENTS, times=None))


def _openai_slow(world: World) -> None:
    _openai(world, Fault(FaultKind.SLOW, seconds=_SLOW_S, times=None))


NAMED_FAULTS: Final[Mapping[str, Callable[[World], None]]] = {
    "bedrock-throttled": _throttled,
    "bedrock-slow": _slow,
    "bedrock-cut": _cut,
    "bedrock-denied": _refused("AccessDeniedException", 403, "You have no access."),
    "bedrock-ends-early": _ends_early,
    "bedrock-garbage": _garbage,
    "bedrock-overflow": _refused(
        "ValidationException", 400, "Input is too long for requested model."
    ),
    "bedrock-quota": _refused("ServiceQuotaExceededException", 400, "Your quota is used up."),
    "bedrock-throttled-midway": _refused(
        "ThrottlingException", 429, "Too many tokens.", _CUT_AFTER_EVENTS
    ),
    "kms-denied": _kms_denied,
    "kms-down": _kms_down,
    "logging-on": _logging_on,
    "openai-cut": _openai_cut,
    "openai-down": _openai_down,
    "openai-slow": _openai_slow,
    "openai-throttled": _openai_throttled,
    "sts-down": _sts_down,
}
"""Each stays on until the stack ends; it is switched on after the first chat."""
