"""Whose credentials the enclave uses, and whether that account logs prompts (DESIGN 7).

The parent delivers AWS credentials, so it could deliver those of an account of its own with model
invocation logging switched on. Before any use the enclave asks STS over its own TLS whose they are,
and Bedrock in each Region whether it logs; again every minute. What is older than two minutes
refuses service. Credentials that did not pass never replace ones that did.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from latensgate_enclave.aws.bedrock import (
    bedrock_scope,
    logging_state_request,
    parse_logging_state,
)
from latensgate_enclave.aws.sigv4 import sign
from latensgate_enclave.aws.sts import caller_identity_request, parse_caller_identity, sts_scope
from latensgate_enclave.egress import Call
from latensgate_shared.errors import ErrorCode, LatensgateError
from latensgate_shared.limits import (
    AWS_ANSWER_MAX_BYTES,
    AWS_CONTROL_DEADLINE_MS,
    IDENTITY_MAX_AGE_S,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from latensgate_enclave.aws.sigv4 import Credentials, SigningScope
    from latensgate_enclave.clock import EnclaveClock
    from latensgate_enclave.egress import Egress
    from latensgate_enclave.http1 import HttpRequest, HttpResponse
    from latensgate_enclave.measured import Deployment


class IdentityRefusedError(LatensgateError):
    """The credentials are not of the measured account, were not checked lately, or it logs."""

    code = ErrorCode.ERR_UPSTREAM_IDENTITY


@dataclass(frozen=True, slots=True)
class CheckedIdentity:
    """What STS and Bedrock said about one set of credentials.

    Attributes:
        credentials: That were asked with.
        account: Equal to the measured one.
        logging: Region → whether invocation logging is on.
        checked_at_s: Enclave time at the beginning of the check.
    """

    credentials: Credentials = field(repr=False)
    account: str
    logging: Mapping[str, bool]
    checked_at_s: int


class UpstreamIdentity:
    """Holds the credentials that passed, and how fresh the check is.

    Attributes:
        is_foreign: Whether the credentials checked last were of another account; for health.
    """

    def __init__(self, egress: Egress, clock: EnclaveClock, deployment: Deployment) -> None:
        self._egress = egress
        self._clock = clock
        self._deployment = deployment
        self._checked: CheckedIdentity | None = None
        self._asked = self._accepted = 0  # numbers of calls of `accept`
        self.is_foreign = False

    async def accept(self, credentials: Credentials) -> None:
        """Check credentials that the parent delivered, and use them if they pass.

        Of those that pass, the ones delivered last are used, however long each check takes.

        Raises:
            LatensgateError: They did not pass, or could not be checked; the old ones stay.
        """
        self._asked += 1
        number = self._asked
        checked = await self._check(credentials)
        if number > self._accepted:
            self._accepted, self._checked = number, checked

    async def recheck(self) -> None:
        """Check the credentials in use again. Call it every `IDENTITY_CHECK_S`.

        Raises:
            LatensgateError: They no longer pass and are forgotten at once
                (`ERR_UPSTREAM_IDENTITY`), or could not be checked; what is known ages on.
        """
        if self._checked is None:
            return
        held = self._checked
        try:
            checked = await self._check(held.credentials)
        except LatensgateError as error:
            if self._checked is held and error.code is ErrorCode.ERR_UPSTREAM_IDENTITY:
                self._checked = None
            raise
        if self._checked is held:  # not replaced while we asked
            self._checked = checked

    async def _check(self, credentials: Credentials) -> CheckedIdentity:
        now_s = self._clock.now_s()
        home = self._deployment.regions[0]
        answer = await self._ask(caller_identity_request(home), credentials, sts_scope(home))
        account = parse_caller_identity(answer).account
        if account != self._deployment.account:
            self.is_foreign = True
            raise IdentityRefusedError("STS: the credentials are of another account")
        self.is_foreign = False
        logging = {
            region: await self._is_logging(region, credentials)
            for region in self._deployment.regions
        }
        return CheckedIdentity(credentials, account, logging, now_s)

    async def _is_logging(self, region: str, credentials: Credentials) -> bool:
        request, scope = logging_state_request(region), bedrock_scope(region)
        return parse_logging_state(await self._ask(request, credentials, scope)).is_on

    async def _ask(
        self, request: HttpRequest, credentials: Credentials, scope: SigningScope
    ) -> HttpResponse:
        signed = sign(request, credentials, scope, at_s=self._clock.now_s())
        call = Call(signed, AWS_ANSWER_MAX_BYTES, AWS_CONTROL_DEADLINE_MS)
        return await self._egress.send(call)

    @property
    def held(self) -> CheckedIdentity | None:
        """What is known, however old; for health."""
        return self._checked

    @property
    def is_fresh(self) -> bool:
        """Whether credentials have passed lately."""
        return self._checked is not None and self._age_s(self._checked) <= IDENTITY_MAX_AGE_S

    def credentials(self) -> Credentials:
        """Return credentials of the measured account, for KMS.

        Raises:
            IdentityRefusedError: None were delivered, or the check is too old.
        """
        return self._fresh().credentials

    def for_region(self, region: str) -> CheckedIdentity:
        """Return the identity to call a model in a Region with.

        Raises:
            IdentityRefusedError: As `credentials`; or the account logs there and the measured
                deployment refuses that (`ERR_UPSTREAM_LOGGING`).
        """
        checked = self._fresh()
        if checked.logging[region] and self._deployment.invocation_logging == _REFUSE:
            raise IdentityRefusedError(
                f"model invocation logging is on in {region}",
                code=ErrorCode.ERR_UPSTREAM_LOGGING,
            )
        return checked

    def _fresh(self) -> CheckedIdentity:
        if self._checked is None:
            raise IdentityRefusedError("no credentials have passed the check")
        age_s = self._age_s(self._checked)
        if age_s > IDENTITY_MAX_AGE_S:
            raise IdentityRefusedError(
                f"the check of the credentials is {age_s} s old, at most {IDENTITY_MAX_AGE_S} s"
            )
        return self._checked

    def _age_s(self, checked: CheckedIdentity) -> int:
        return self._clock.now_s() - checked.checked_at_s


_REFUSE: Final = "refuse"
