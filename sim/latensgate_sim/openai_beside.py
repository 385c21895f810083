"""What OpenAI's interface tells beside text and calls, as the simulated upstream makes it up."""

from __future__ import annotations

import base64
import re
from typing import Final, cast

_Object = dict[str, object]
HEAD: Final[_Object] = {"service_tier": "default", "system_fingerprint": "fp_simulated"}
"""Stands in every answer and every chunk."""
_TOKEN: Final = re.compile(r"\s*\S+|\s+")
_LOGPROB: Final = -0.25


def logprobs(body: _Object, text: str) -> _Object | None:
    """Return what ``logprobs`` asks for: every word is one token."""
    if body.get("logprobs") is not True or not text:
        return None
    count = cast("int", body.get("top_logprobs") or 0)
    told = [{**_token(word), "top_logprobs": [_token(word)][:count]} for word in _words(text)]
    return {"content": told, "refusal": None}


def _words(text: str) -> list[str]:
    return _TOKEN.findall(text)


def _token(word: str) -> _Object:
    return {"token": word, "bytes": list(word.encode()), "logprob": _LOGPROB}


def beside_message(body: _Object, text: str) -> _Object:
    """Return citations and sound, where they are asked for."""
    told: _Object = {}
    if "web_search_options" in body:
        found = {"start_index": 0, "end_index": len(text), "title": "A page"}
        citation = {**found, "url": "https://www.example.com/page"}
        told["annotations"] = [{"type": "url_citation", "url_citation": citation}]
    if "audio" in cast("list[str]", body.get("modalities") or []):
        sound = base64.b64encode(b"RIFF simulated").decode()
        told["audio"] = {"id": "audio_1", "data": sound, "expires_at": 1, "transcript": text}
    return told


def moderation(body: _Object) -> _Object:
    """Return the verdict on request and answer, where it is asked for."""
    asked = body.get("moderation")
    if not isinstance(asked, dict):
        return {}
    model = cast("_Object", asked)["model"]
    found = {
        "categories": {"violence": False},
        "category_applied_input_types": {"violence": ["text"]},
        "category_scores": {"violence": 0.01},
        "flagged": False,
        "model": model,
        "type": "moderation_result",
    }
    verdict = {"type": "moderation_results", "model": model, "results": [found]}
    return {"moderation": {"input": verdict, "output": verdict}}
