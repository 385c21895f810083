"""The KMS gate while it is open: what changes about the key stops service, on the real timers.

The process is a real one whose timers are only shorter. Each test names its line of defence;
``mutants.py`` proves that it fails without it.
"""

from __future__ import annotations

import pytest

from attack_keys import NOBODY, ROOT, with_statements
from attack_tools import wait_for
from e2e_client import Client, chat
from e2e_fixtures import QUICK, StartStack
from latensgate_shared import calls
from latensgate_shared.errors import ErrorCode
from latensgate_sim.faults import Fault, FaultKind
from latensgate_sim.world import ACCOUNT, World
from stack import CallFailedError, ParentLink, Stack

UNFIT = ErrorCode.ERR_KMS_KEY_UNFIT


def _closed(stack: Stack, client: Client, code: ErrorCode) -> None:
    """Wait until service has stopped, and demand its code, and that no key is left."""
    with stack.link() as link:
        found: list[ErrorCode | None] = []

        def refused() -> bool:
            found.append(client.fails(link, chat("still there?")))
            return found[-1] is not None

        wait_for(refused)
        assert found[-1] is code
        with pytest.raises(CallFailedError) as attested:
            link.call(calls.AttestationCall())
        assert attested.value.code is code


@pytest.fixture
def serving(own_world: World, start_stack: StartStack) -> tuple[Stack, Client]:
    stack = start_stack(own_world, limits=QUICK)
    with stack.link() as link:
        stack.open_gate(link)
        return stack, Client.attest(stack, link)


def test_key_disabled_while_serving_stops_service(serving: tuple[Stack, Client]) -> None:
    """Defence: supervisor.recheck_gate on its timer."""
    stack, client = serving
    world = stack.world
    world.home.kms.call(world.admin.identity, "DisableKey", {"KeyId": stack.key_arn})
    _closed(stack, client, UNFIT)


def test_policy_swapped_while_serving_stops_service(serving: tuple[Stack, Client]) -> None:
    """Defence: supervisor.recheck_gate, which reads the policy again."""
    stack, client = serving
    looser = with_statements(stack, lambda statements: statements.append(ROOT))
    stack.world.set_policy(stack.key_arn, looser)
    _closed(stack, client, UNFIT)


def test_grant_made_while_serving_stops_service(serving: tuple[Stack, Client]) -> None:
    """Defence: supervisor.recheck_gate, which lists grants again."""
    stack, client = serving
    held = stack.world.home.kms.keys.resolve(stack.key_arn, ACCOUNT)
    held.add_grant("extra", stack.world.admin.identity.principal_arn, ["Decrypt"], {}, "")
    _closed(stack, client, UNFIT)


def test_denial_while_serving_stops_service(serving: tuple[Stack, Client]) -> None:
    """Nobody may use the key any more. Defence: supervisor.recheck_gate, `_BORNE`."""
    stack, client = serving
    policy = with_statements(stack, lambda statements: statements.append(NOBODY))
    stack.world.set_policy(stack.key_arn, policy)
    _closed(stack, client, ErrorCode.ERR_KMS_DENIED)


def client_of(stack: Stack, link: ParentLink) -> Client | None:
    try:
        return Client.attest(stack, link)
    except CallFailedError:
        return None


def test_service_comes_back_with_new_keys_when_the_key_does(
    serving: tuple[Stack, Client],
) -> None:
    """Old keys are gone for good: what was sealed to them stays closed."""
    stack, client = serving
    world = stack.world
    held = world.home.kms.keys.resolve(stack.key_arn, ACCOUNT)
    held.enabled, held.key_state = False, "Disabled"
    _closed(stack, client, UNFIT)
    held.enabled, held.key_state = True, "Enabled"
    with stack.link() as link:
        wait_for(lambda: client_of(stack, link) is not None)
        again = Client.attest(stack, link)
        assert again.ask(link, chat("back")).text == "You said: back"
        assert client.refusal(link, client.seal(chat("old"))).code is ErrorCode.ERR_KEY_STALE


def test_unreachable_kms_is_borne_for_the_grace_and_no_longer(
    own_world: World, start_stack: StartStack
) -> None:
    """Defence: supervisor.recheck_gate, `age_s > KMS_GATE_GRACE_S`, on enclave time.

    The grace is shorter than credentials may go unchecked, so that no jump of time ends those.
    """
    stack = start_stack(own_world, limits={**QUICK, "KMS_GATE_GRACE_S": 60})
    with stack.link() as link:
        stack.open_gate(link)
        client = Client.attest(stack, link)
        own_world.home.kms.faults.on(Fault(FaultKind.CUT, times=None))
        stack.advance(30)
        denied = stack.event_count("KMS_GATE_DENIED")
        wait_for(lambda: stack.event_count("KMS_GATE_DENIED") > denied + 1)
        assert client.ask(link, chat("within")).text == "You said: within"
        stack.advance(40)
    _closed(stack, client, ErrorCode.ERR_KMS_UNREACHABLE)
