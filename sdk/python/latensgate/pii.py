"""``lg.pii``: try a policy on texts or on a chat request; sealed, and no model is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, Optional, cast

from openai import BaseModel

from latensgate.checkable import Checkable
from latensgate.transport_routes import DRY_RUN_PATH
from latensgate.verify import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from latensgate.client import AsyncLatensgate, Latensgate

Direction = Literal["prompt", "answer", "tool_arguments", "tool_results"]
_NO_MODEL: Final = "none"
"""The visible model name of a dry run over texts: none is called."""
_OF_STREAMS: Final = ("stream", "stream_options")

# ruff: noqa: UP045 -- pydantic reads the annotations at run time, and openai 1.60's rebuilds them


class ContextWord(BaseModel):
    """A word that raised a score; ``distance`` 1 stands right before the match."""

    word: str
    distance: int


class PIIEvidence(BaseModel):
    """One match that counts towards a finding.

    Attributes:
        source: ``tier1``, ``tier2``, ``deny_list`` or ``custom``.
        recognizer: Its name.
        offset: In characters of the original text.
        length: In characters.
        score: With everything.
        pattern: RE2 syntax, where a pattern matched.
        pattern_score: Of the pattern alone.
        validated_score: What its validator (check digits, number plans) made of it, if it has one.
        context: Words before it that count, the nearest first.
        reading: ``plain``, ``escaped`` or ``base64``.
    """

    source: str
    recognizer: str
    offset: int
    length: int
    score: float
    pattern: Optional[str] = None
    pattern_score: Optional[float] = None
    validated_score: Optional[float] = None
    context: list[ContextWord]
    reading: str


class PolicyLayer(BaseModel):
    """What the floor, the tenant's settings or the request asks for."""

    layer: str
    action: str
    hold: bool
    threshold: float
    allow_listed: bool
    decides: bool


class PIIFinding(BaseModel):
    """One finding, and what becomes of it.

    Attributes:
        category: What it is taken for.
        offset: In characters of the original text.
        length: In characters.
        score: Confidence, 0 to 1.
        threshold: Lowest score that is acted on.
        action: Of the effective policy.
        hold: Whether an approver is asked.
        fate: ``acted``; ``across`` (a part of what runs over several texts); or why nothing
            happens: ``below_threshold``, ``allow_listed``, ``covered`` (by a certain finding).
        recognizer: Whose score it is.
        decided_by: Names of the layers that ask for the action.
        layers: All layers that have an opinion.
        evidence: Why it was found, the best match first.
    """

    category: str
    offset: int
    length: int
    score: float
    threshold: float
    action: str
    hold: bool
    fate: str
    recognizer: str
    decided_by: list[str]
    layers: list[PolicyLayer]
    evidence: list[PIIEvidence]


class ExplainedText(BaseModel):
    """One text.

    Attributes:
        direction: Where it goes.
        hint: Name of the JSON member that holds it, or empty.
        original: As it was sealed.
        forwarded: As the model would get it; None where the whole is refused.
        findings: In the order of their place.
    """

    direction: str
    hint: str
    original: str
    forwarded: Optional[str] = None
    findings: list[PIIFinding]


class AttachmentVerdict(BaseModel):
    """What becomes of attachments, which no scan can look into."""

    count: int
    action: str
    refused: bool
    hold: bool


class PolicyDryRun(Checkable):
    """What the policy would do; out of an attested enclave, its receipt verified.

    Attributes:
        model: As asked.
        refused: Whether the request would be refused as a whole.
        refusals: Why.
        policy_digest: Of the effective policy.
        engine_digest: Of all that decides what is found.
        settings: Which tenant settings were applied.
        counts: Of what is acted on, by category and direction.
        surrogates: How many values would get one.
        attachments: None where there are none.
        texts: Every text, in the order in which the model would get them.
    """

    model: str
    refused: bool
    refusals: list[str]
    policy_digest: Optional[str] = None
    engine_digest: Optional[str] = None
    settings: str
    counts: dict[str, dict[str, int]]
    surrogates: int
    attachments: Optional[AttachmentVerdict] = None
    texts: list[ExplainedText]


def dry_run_body(
    text: str | Sequence[str | Mapping[str, object]] | None,
    direction: str,
    chat: Mapping[str, object],
) -> dict[str, object]:
    """Return the body of a dry run.

    Raises:
        ConfigurationError: Neither texts nor a chat request, or both.
    """
    if (text is None) is not bool(chat):
        raise ConfigurationError("explain: either texts or model and messages expected")
    if text is None:
        return {name: value for name, value in chat.items() if name not in _OF_STREAMS}
    given: Iterable[str | Mapping[str, object]] = [text] if isinstance(text, str) else text
    texts = [
        {"text": each, "direction": direction} if isinstance(each, str) else {**each}
        for each in given
    ]
    return {"model": _NO_MODEL, "texts": texts}


class PII:
    """``lg.pii``."""

    def __init__(self, client: Latensgate) -> None:
        self._client = client

    def explain(
        self,
        text: str | Sequence[str | Mapping[str, object]] | None = None,
        *,
        direction: Direction = "prompt",
        **chat: object,
    ) -> PolicyDryRun:
        """Say what floor, tenant settings and this client's policy do to texts, and why.

        Args:
            text: A text, or several; a mapping may hold ``text``, ``direction`` and ``hint``.
            direction: Of the texts that do not name their own.
            chat: In their place, what ``chat.completions.create`` takes.

        Raises:
            ConfigurationError: Neither texts nor a chat request, or both.
            LatensgateClientError: It was refused.
        """
        body = dry_run_body(text, direction, chat)
        return self._client.post(DRY_RUN_PATH, cast_to=PolicyDryRun, body=body)


class AsyncPII:
    """``lg.pii`` of the asynchronous client."""

    def __init__(self, client: AsyncLatensgate) -> None:
        self._client = client

    async def explain(
        self,
        text: str | Sequence[str | Mapping[str, object]] | None = None,
        *,
        direction: Direction = "prompt",
        **chat: object,
    ) -> PolicyDryRun:
        """Say what floor, tenant settings and this client's policy do; see ``PII.explain``.

        Raises:
            ConfigurationError: Neither texts nor a chat request, or both.
            LatensgateClientError: It was refused.
        """
        body = dry_run_body(text, direction, chat)
        made = await self._client.post(DRY_RUN_PATH, cast_to=PolicyDryRun, body=body)
        return cast("PolicyDryRun", cast("Any", made))
