"""The judgement of a whole audit log: signatures, chains, gaps, and receipts that one kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from latensgate.cli.exit_codes import DONE, ExitCode
from latensgate.cli.text import printable
from latensgate.gateway.errors import GatewayRefusedError
from latensgate.verify import VerificationError, verify_receipt_chain
from latensgate_shared.receipts import receipt_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from latensgate.cli.archive import Archive
    from latensgate.gateway import AuditEntry
    from latensgate.verify import VerifiedPublicPart
    from latensgate_shared.receipts import PublicPart


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one receipt or one place of a chain.

    Attributes:
        what: ``document``, ``receipt``, ``tenant``, ``chain``, ``gap`` or ``withheld``.
        where: Receipt id, or the places of the gap.
        detail: Why.
    """

    what: str
    where: str
    detail: str


@dataclass(frozen=True, slots=True)
class ChainReport:
    """Receipts of one enclave and tenant.

    Attributes:
        receipt_key: 64 hex digits: the enclave.
        tenant_id: Whose.
        count: Receipts that verified.
        first_sequence: Of the oldest one there.
        last_sequence: Of the newest one there.
        last_hash: Of the newest one: remember it, the next one must name it.
        status: ``verified`` or ``simulated``.
    """

    receipt_key: str
    tenant_id: str
    count: int
    first_sequence: int
    last_sequence: int
    last_hash: str
    status: str


@dataclass(frozen=True, slots=True)
class LogReport:
    """Everything that was found.

    Attributes:
        receipts: How many the log holds.
        chains: One for each enclave and tenant.
        problems: In the order in which they were found; none: all is well.
    """

    receipts: int
    chains: tuple[ChainReport, ...]
    problems: tuple[Problem, ...]

    @property
    def code(self) -> ExitCode:
        """Exit code of ``audit check``."""
        kinds = {problem.what for problem in self.problems}
        if kinds - {"gap", "withheld"}:
            return ExitCode.RECEIPT
        if kinds:
            return ExitCode.GAPS
        simulated = any(chain.status == "simulated" for chain in self.chains)
        return ExitCode.SIMULATED if simulated else DONE


@dataclass(slots=True)
class LogCheck:
    """A judgement that is being made.

    Attributes:
        archive: Verified documents.
        tenant_id: Whose receipts they should be; None: not known here.
    """

    archive: Archive
    tenant_id: str | None
    _good: list[VerifiedPublicPart] = field(default_factory=list["VerifiedPublicPart"])
    _problems: list[Problem] = field(default_factory=list[Problem])
    _by_id: dict[str, PublicPart] = field(default_factory=dict[str, "PublicPart"])

    def take(self, entry: AuditEntry) -> None:
        """Judge one receipt of the log."""
        public = entry.public
        self._by_id[public.receipt_id] = public
        if self.tenant_id not in {None, public.tenant_id}:
            self._problem("tenant", public.receipt_id, f"of {public.tenant_id}")
        try:
            self._good.append(self.archive.verified(entry))
        except VerificationError as error:
            what = "receipt" if error.kind == "receipt-invalid" else "document"
            self._problem(what, public.receipt_id, error.detail)
        except GatewayRefusedError as error:
            if not error.code.name.startswith("ERR_ATTESTATION"):
                raise
            self._problem("document", public.receipt_id, "the gateway has no document for it")

    def compare_kept(self, kept: Iterable[PublicPart]) -> None:
        """Look for receipts that a client kept: the log must hold the same ones."""
        for public in kept:
            there = self._by_id.get(public.receipt_id)
            if there is None:
                self._problem("withheld", public.receipt_id, "you have it, the log does not")
            elif there != public:
                self._problem("receipt", public.receipt_id, "the log holds another of this id")

    def report(self) -> LogReport:
        """Return everything that was found."""
        ordered = sorted(self._good, key=_place)
        chains = [list(group) for _, group in groupby(ordered, key=_chain)]
        told = tuple(self._chain(members) for members in chains)
        return LogReport(len(self._by_id), told, tuple(self._problems))

    def _chain(self, members: Sequence[VerifiedPublicPart]) -> ChainReport:
        first, last = members[0].public, members[-1].public
        if first.sequence:
            self._gap(0, first.sequence - 1)
        for run in self._runs(members):
            try:
                verify_receipt_chain(run)
            except VerificationError as error:
                ids = f"{run[0].public.receipt_id} … {run[-1].public.receipt_id}"
                self._problem("chain", ids, error.detail)
        return ChainReport(
            receipt_key=members[0].receipt_public_key.hex(),
            tenant_id=first.tenant_id,
            count=len(members),
            first_sequence=first.sequence,
            last_sequence=last.sequence,
            last_hash=receipt_hash(last),
            status=members[0].status,
        )

    def _runs(self, members: Sequence[VerifiedPublicPart]) -> list[list[VerifiedPublicPart]]:
        """Cut a chain where places are missing; every cut is a gap."""
        runs = [[members[0]]]
        for member in members[1:]:
            expected = runs[-1][-1].public.sequence + 1
            if member.public.sequence > expected:
                self._gap(expected, member.public.sequence - 1)
                runs.append([])
            runs[-1].append(member)
        return runs

    def _gap(self, first: int, last: int) -> None:
        count = last - first + 1
        where = f"sequence {first}" if count == 1 else f"sequences {first} to {last}"
        self._problem("gap", where, f"{count:,} receipt{'s' if count > 1 else ''} missing")

    def _problem(self, what: str, where: str, detail: str) -> None:
        self._problems.append(Problem(what, where, printable(detail)))


def _chain(item: VerifiedPublicPart) -> tuple[bytes, str]:
    return item.receipt_public_key, item.public.tenant_id


def _place(item: VerifiedPublicPart) -> tuple[bytes, str, int]:
    return *_chain(item), item.public.sequence
