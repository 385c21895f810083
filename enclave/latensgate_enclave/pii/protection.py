"""What is done for one request, both ways: its policy, what finds, and its surrogates."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from msgspec.structs import replace

from latensgate_enclave.pii.apply import scan_texts
from latensgate_enclave.pii.custom import scanner_for
from latensgate_enclave.pii.errors import PIIHardFailError
from latensgate_enclave.pii.held import HeldTally
from latensgate_enclave.pii.restore import Restorer
from latensgate_enclave.pii.surrogates import Surrogates
from latensgate_enclave.pii.tally import Tally, Verdict
from latensgate_enclave.pii.windowed import WindowedScan, changes
from latensgate_shared.pii_names import Direction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latensgate_enclave.pii.apply import ScannedTexts, TextPart
    from latensgate_enclave.pii.scanner import Scanner
    from latensgate_enclave.pii.tally import Budget
    from latensgate_shared.pii_policy import Layer, Policy
    from latensgate_shared.strict_json import JSONObject


class Scan(Protocol):
    """Scans texts of one way: of requests or of answers."""

    def __call__(self, parts: Sequence[TextPart], *, budget: Budget) -> ScannedTexts:
        """Return the texts as the policy wants them."""
        ...


NO_SURROGATES: Final = {"made": 0, "restored": 0, "unknown": 0}
"""What a receipt says where no text was looked at."""
_LABEL: Final = b"latensgate/1 surrogates\x00"


@dataclass(slots=True, repr=False)
class Protection:
    """The protection of one request.

    Attributes:
        policy: The effective one.
        scanner: Finds all that the policy acts on.
        request_scanner: The same for the request, whose texts mostly came before.
        surrogates: Those that the request's values were given.
        restored: How often a value was put back into the answer.
        unknown: How often the answer held what looks like a surrogate and is none of the request's.
        tally: Of the parts of an answer that were scanned in windows.
        layers: What the effective policy was joined of, for explanations.
        held: What of the request asks for an approver, counted.
    """

    policy: Policy
    scanner: Scanner
    request_scanner: Scanner
    surrogates: Surrogates
    restored: int = 0
    unknown: int = 0
    tally: Tally = field(default_factory=Tally)
    layers: tuple[Layer, ...] = ()
    held: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])

    @classmethod
    def under(
        cls,
        policy: Policy,
        engine: Scanner,
        tenant_id: str,
        secret: bytes,
        remembering: Scanner | None = None,
    ) -> Protection:
        """Make the protection of a request.

        Args:
            policy: The effective one.
            engine: Whose findings it uses.
            tenant_id: Whose request.
            secret: Of the conversation, from inside the seal; or random.
            remembering: The engine for texts of the request, if it is another.

        Raises:
            PolicyError: A pattern of the policy that cannot be used.
        """
        key = hmac.digest(secret, _LABEL + tenant_id.encode(), "sha256")
        scanner = scanner_for(engine, policy)
        remembers = scanner if remembering is None else scanner_for(remembering, policy)
        return cls(policy, scanner, remembers, Surrogates(key))

    def waits(self) -> bool:
        """Whether a scan may wait for another process."""
        return self.scanner.waits(self.policy.sought)

    def scan_request(self, parts: Sequence[TextPart], *, budget: Budget) -> ScannedTexts:
        """Scan the texts of a request.

        Raises:
            LatensgateError: As `scan_texts`.
        """
        surrogates, witness = self.giving(), HeldTally(self.policy) if self.policy.holds else None
        scanner, policy = self.request_scanner, self.policy
        scanned = scan_texts(
            scanner, policy, parts, budget=budget, surrogates=surrogates, witness=witness
        )
        if witness is not None:
            self.held = witness.counts()
        return scanned

    def giving(self) -> Surrogates | None:
        """Return what gives surrogates to the request's values; None where the policy asks none."""
        return self.surrogates if self.policy.pseudonymises else None

    def scan_answer(self, parts: Sequence[TextPart], *, budget: Budget) -> ScannedTexts:
        """Scan the texts of an answer, and put the caller's own values back.

        Raises:
            LatensgateError: As `scan_texts`.
        """
        known = self.surrogates if len(self.surrogates) else None
        scanned = scan_texts(self.scanner, self.policy, parts, budget=budget, known=known)
        if known is None:
            return scanned
        texts = tuple([self._restored(text) for text in scanned.texts])
        changed = scanned.changed or texts != scanned.texts
        return replace(scanned, texts=texts, changed=changed)

    def scan_part_of_answer(self, parts: Sequence[TextPart], *, budget: Budget) -> tuple[str, ...]:
        """Scan texts of an answer that is not complete yet; they are counted in `tally`.

        Raises:
            LatensgateError: As `scan_texts`.
        """
        try:
            scanned = self.scan_answer(parts, budget=budget)
        except PIIHardFailError as error:
            self.tally.take(Verdict(error.counts))
            raise
        self.tally.take(scanned.verdict)
        return scanned.texts

    def count_answer(self, parts: Sequence[TextPart], *, budget: Budget) -> ScannedTexts:
        """Scan texts of an answer that have left already.

        Raises:
            LatensgateError: As `scan_texts`.
        """
        known = self.surrogates if len(self.surrogates) else None
        return scan_texts(self.scanner, self.policy, parts, budget=budget, known=known)

    def left_to_count(self, parts: Sequence[TextPart]) -> list[TextPart]:
        """Return the texts of an answer that left without a scan, because nothing changes them."""
        return [part for part in parts if not self.changes(part.direction)]

    def _restored(self, text: str) -> str:
        restorer = Restorer(self.surrogates)
        told = restorer.push(text) + restorer.end()
        self.note(restorer)
        return told

    def note(self, restorer: Restorer) -> None:
        """Count what a restorer did, once it has ended."""
        self.restored += restorer.restored
        self.unknown += restorer.unknown

    def changes(self, direction: Direction) -> bool:
        """Whether the policy could change or refuse something of an answer."""
        return changes(self.policy, direction)

    def acts_on_answers(self) -> bool:
        """Whether an answer may come to its caller in other words than the model's, or not."""
        ways = (Direction.ANSWER, Direction.TOOL_ARGUMENTS)
        return len(self.surrogates) > 0 or any(self.changes(each) for each in ways)

    def stream(self, direction: Direction, *, budget: Budget, json_text: bool = False) -> Passage:
        """Begin a text of an answer that comes in pieces."""
        known = self.surrogates if len(self.surrogates) else None
        scan = None
        if self.changes(direction):
            scan = WindowedScan(
                self.scanner, self.policy, direction, tally=self.tally, budget=budget, known=known
            )
        restorer = None if known is None else Restorer(known, json_text=json_text)
        return Passage(self, scan, restorer)

    def surrogate_counts(self) -> JSONObject:
        """Return what a receipt says of surrogates."""
        return {"made": len(self.surrogates), "restored": self.restored, "unknown": self.unknown}


class Passage:
    """One text of an answer on its way through scan and restoration, piece by piece.

    Args:
        protection: Of the request; told what was restored.
        scan: None where the policy changes nothing there.
        restorer: None where nothing has a surrogate.
    """

    __slots__ = ("_protection", "_restorer", "_scan")

    def __init__(
        self, protection: Protection, scan: WindowedScan | None, restorer: Restorer | None
    ) -> None:
        self._protection = protection
        self._scan = scan
        self._restorer = restorer

    def push(self, piece: str) -> str:
        """Take the next piece; return what may leave.

        Raises:
            LatensgateError: As `WindowedScan.push`.
        """
        told = piece if self._scan is None else self._scan.push(piece)
        return told if self._restorer is None else self._restorer.push(told)

    def end(self) -> str:
        """Return what was held back.

        Raises:
            LatensgateError: As `WindowedScan.end`.
        """
        told = "" if self._scan is None else self._scan.end()
        if self._restorer is None:
            return told
        told = self._restorer.push(told) + self._restorer.end()
        self._protection.note(self._restorer)
        return told
