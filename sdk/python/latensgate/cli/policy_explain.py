"""``latensgate policy explain``: what the policy would do to a text or a chat request, and why."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from rich.panel import Panel
from rich.text import Text

from latensgate.cli.chat_ask import AskError, told
from latensgate.cli.chat_once import refused
from latensgate.cli.chat_view import receipt_json, receipt_line
from latensgate.cli.evidence import STDIN, read_file
from latensgate.cli.exit_codes import DONE, ExitCode, epilog
from latensgate.cli.policy_files import policy_file
from latensgate.cli.session import gateway_command
from latensgate.cli.simple import count, facts_table, list_table, plain, short_hash
from latensgate.verify.errors import ConfigurationError
from latensgate_shared.errors import MalformedError
from latensgate_shared.limits import MIB
from latensgate_shared.pii_names import Direction
from latensgate_shared.strict_json import parse_json_object

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from latensgate import PolicyDryRun
    from latensgate.cli.session import Session
    from latensgate.pii import ExplainedText, PIIEvidence, PIIFinding
    from latensgate_shared.strict_json import JSONObject

TEXT_MAX_BYTES: Final = 4 * MIB
_STYLES: Final = {
    "allow": "dim",
    "flag": "yellow",
    "pseudonymise": "cyan",
    "mask": "magenta",
    "fail": "bold red",
}
_FATES: Final = {
    "below_threshold": "below its threshold",
    "allow_listed": "on an allow list",
    "covered": "inside a certain finding",
    "across": "part of what runs over several texts",
}


@click.command(
    "explain",
    epilog=epilog(
        DONE,
        ExitCode.USAGE,
        ExitCode.UNREADABLE,
        ExitCode.UNREACHABLE,
        ExitCode.REFUSED,
        ExitCode.UNAUTHENTICATED,
    ),
)
@click.argument("text", required=False)
@click.option("--file", "file", metavar="FILE", help="Read the text here; - is standard input.")
@click.option(
    "--chat", metavar="FILE", help="A chat request as JSON (model, messages, tools, …) here."
)
@click.option(
    "--direction",
    type=click.Choice([each.value for each in Direction]),
    default=Direction.PROMPT.value,
    show_default=True,
    help="Where the text goes.",
)
@click.option("--policy", "policy", metavar="FILE", help="A request policy (TOML) to join.")
@click.option("--tenant-root", metavar="HEX", help="Apply the settings that this root key signed.")
@gateway_command
def explain_command(  # noqa: PLR0913  # one for each option
    session: Session,
    *,
    text: str | None,
    file: str | None,
    chat: str | None,
    direction: str,
    policy: str | None,
    tenant_root: str | None,
) -> ExitCode:
    """Say what the policy would do, and why. Sealed to the enclave; no model is called.

    TEXT is standard input where nothing is named. What would be refused is told, and is no error.
    """
    body = _body(text, file, chat, direction)
    rules = None if policy is None else policy_file(Path(policy))
    found = _ask(session, body, rules, tenant_root)
    _show(session, found)
    return DONE


def _body(text: str | None, file: str | None, chat: str | None, direction: str) -> JSONObject:
    if sum(each is not None for each in (text, file, chat)) > 1:
        raise ConfigurationError("explain: one of TEXT, --file and --chat expected")
    if chat is not None:
        try:
            return parse_json_object(read_file(chat, TEXT_MAX_BYTES), max_bytes=TEXT_MAX_BYTES)
        except MalformedError as error:
            raise ConfigurationError(f"{chat}: {error.detail}") from None
    if text is None:
        try:
            text = read_file(STDIN if file is None else file, TEXT_MAX_BYTES).decode("utf-8")
        except UnicodeDecodeError:
            raise ConfigurationError(f"{file or 'standard input'}: UTF-8 expected") from None
    return {"texts": [{"text": text, "direction": direction}]}


def _ask(
    session: Session, body: JSONObject, policy: JSONObject | None, tenant_root: str | None
) -> PolicyDryRun:
    """Ask with the SDK; end the command where it refuses."""
    import openai  # noqa: PLC0415 - the other commands start faster

    from latensgate.cli.sealed_client import sealed_client  # noqa: PLC0415 - as above

    if strange := body.keys() & {"text", "direction"}:
        raise ConfigurationError(f"chat request: {min(strange)}: no member of one")
    given = dict(body)
    texts = given.pop("texts", None)
    with closing(sealed_client(session.wanted, policy=policy, tenant_root=tenant_root)) as client:
        try:
            return client.pii.explain(texts, **given)  # type: ignore[arg-type]  # made above
        except openai.OpenAIError as error:
            refused(session, AskError(*told(error)).failure)


def _show(session: Session, found: PolicyDryRun) -> None:
    from latensgate import receipt_of  # noqa: PLC0415 - as above

    out, receipt = session.out, receipt_of(found)
    told_as = found.model_dump(mode="json", exclude={"object"})
    out.data({"format": "latensgate-policy-explain/1", **told_as, "receipt": receipt_json(receipt)})
    for number, text in enumerate(found.texts, 1):
        if text.findings or len(found.texts) == 1:
            out.show(*_shown(number, text))
    out.show(_facts(found))
    for reason in found.refusals:
        out.line(f"✗ Refused as a whole: {reason}", "bold red")
    if not out.as_json:
        out.error.print(receipt_line(receipt), soft_wrap=True)


def _shown(number: int, text: ExplainedText) -> list[RenderableType]:
    title = f"text {number}: {text.direction}" + (f", {text.hint}" if text.hint else "")
    shown: list[RenderableType] = [
        Panel(_highlighted(text), title=plain(title), title_align="left")
    ]
    if text.forwarded is not None and text.forwarded != text.original:
        shown.append(
            Panel(_lines(text.forwarded), title="as it would be forwarded", title_align="left")
        )
    if text.findings:
        shown.append(_table(text))
    return shown


def _lines(text: str) -> Text:
    """Return a text of strangers over its lines."""
    return Text("".join(mark if mark == "\n" or mark.isprintable() else "\ufffd" for mark in text))


def _highlighted(text: ExplainedText) -> Text:
    shown = _lines(text.original)  # one character for each: places stay
    for finding in text.findings:
        acts = finding.fate in {"acted", "across"}
        style = f"{_STYLES.get(finding.action, '')} underline" if acts else "dim underline"
        shown.stylize(style, finding.offset, finding.offset + finding.length)
    return shown


def _table(text: ExplainedText) -> Table:
    table = list_table("place", "category", "score", "what happens", "asked by", "why it was found")
    for finding in text.findings:
        table.add_row(
            f"{finding.offset}+{finding.length}",
            plain(finding.category),
            f"{finding.score:g} ≥ {finding.threshold:g}"
            if finding.score >= finding.threshold
            else f"{finding.score:g} < {finding.threshold:g}",
            _what(finding),
            plain(", ".join(finding.decided_by) or "nobody"),
            plain("; ".join(_why(each) for each in finding.evidence[:2]) or finding.recognizer),
        )
    return table


def _what(finding: PIIFinding) -> Text:
    action = plain(finding.action, _STYLES.get(finding.action, ""))
    if finding.hold:
        action.append(", hold")
    if finding.fate == "acted":
        return action
    fate = _FATES.get(finding.fate, finding.fate)
    if finding.fate == "across":
        return action.append(f" ({fate})")
    return plain(f"nothing: {fate}", "dim")


def _why(evidence: PIIEvidence) -> str:
    parts = [evidence.recognizer]
    if evidence.pattern_score is not None and evidence.pattern_score != evidence.score:
        parts.append(f"pattern {evidence.pattern_score:g}")
    if evidence.validated_score is not None:
        parts.append(f"validator {evidence.validated_score:g}")
    parts += [f"context “{each.word}” {each.distance} before" for each in evidence.context]
    if evidence.reading != "plain":
        parts.append(evidence.reading)
    return ", ".join(parts)


def _facts(found: PolicyDryRun) -> Table:
    counts = [
        f"{category} {number} in {direction}"
        for category, directions in found.counts.items()
        for direction, number in directions.items()
    ]
    rows = [
        ("acted on", plain("; ".join(counts) or "nothing")),
        ("surrogates", plain(count(found.surrogates))),
        ("policy", plain(short_hash(found.policy_digest or "none"))),
        ("tenant settings", plain(short_hash(found.settings.replace(" sha384", ", sha384")))),
    ]
    if found.attachments is not None:
        attached = found.attachments
        rows.append(("attachments", plain(f"{attached.count}: {attached.action}")))
    return facts_table(rows)
