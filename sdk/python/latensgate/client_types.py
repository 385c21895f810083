"""What type checkers are told of ``lg.chat``; never imported at run time.

The members are those that docs/spec/wire.md section 5.2 admits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict, overload

from openai._compat import cached_property
from openai.resources.chat import AsyncChat, Chat
from openai.resources.chat.completions import AsyncCompletions, Completions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Unpack

    import httpx
    from openai import AsyncStream, Stream
    from openai.types.chat import (
        ChatCompletionChunk,
        ChatCompletionMessageParam,
        ChatCompletionStreamOptionsParam,
        ChatCompletionToolChoiceOptionParam,
        ChatCompletionToolParam,
    )

    from latensgate.completion import ConfidentialChatCompletion


class ChatOptions(TypedDict, total=False):
    """Optional members of a chat completion, and the OpenAI client's options for one request."""

    frequency_penalty: float | None
    logprobs: bool | None
    max_completion_tokens: int | None
    max_tokens: int | None
    metadata: dict[str, str] | None
    n: int | None
    parallel_tool_calls: bool
    presence_penalty: float | None
    prompt_cache_key: str
    safety_identifier: str
    stop: str | Sequence[str] | None
    store: bool | None
    stream_options: ChatCompletionStreamOptionsParam | None
    temperature: float | None
    tool_choice: ChatCompletionToolChoiceOptionParam
    tools: Iterable[ChatCompletionToolParam]
    top_p: float | None
    user: str
    extra_headers: Mapping[str, str] | None
    extra_body: object
    timeout: float | httpx.Timeout | None


class ConfidentialCompletions(Completions):
    """``lg.chat.completions``."""

    @overload  # type: ignore[override]  # only what is served, and answers of our own type
    def create(
        self,
        *,
        messages: Iterable[ChatCompletionMessageParam],
        model: str,
        stream: Literal[False] | None = None,
        **options: Unpack[ChatOptions],
    ) -> ConfidentialChatCompletion: ...
    @overload
    def create(
        self,
        *,
        messages: Iterable[ChatCompletionMessageParam],
        model: str,
        stream: Literal[True],
        **options: Unpack[ChatOptions],
    ) -> Stream[ChatCompletionChunk]: ...
    @overload
    def create(
        self,
        *,
        messages: Iterable[ChatCompletionMessageParam],
        model: str,
        stream: bool,
        **options: Unpack[ChatOptions],
    ) -> ConfidentialChatCompletion | Stream[ChatCompletionChunk]: ...
    def create(self, **options: object) -> object:  # pyright: ignore[reportIncompatibleMethodOverride]  # as above
        """Ask the model."""
        raise NotImplementedError


class ConfidentialChat(Chat):
    """``lg.chat``."""

    @cached_property
    def completions(self) -> ConfidentialCompletions:
        """Chat completions."""
        raise NotImplementedError


class AsyncConfidentialCompletions(AsyncCompletions):
    """``lg.chat.completions`` of the asynchronous client."""

    @overload  # type: ignore[override]  # only what is served, and answers of our own type
    async def create(
        self,
        *,
        messages: Iterable[ChatCompletionMessageParam],
        model: str,
        stream: Literal[False] | None = None,
        **options: Unpack[ChatOptions],
    ) -> ConfidentialChatCompletion: ...
    @overload
    async def create(
        self,
        *,
        messages: Iterable[ChatCompletionMessageParam],
        model: str,
        stream: Literal[True],
        **options: Unpack[ChatOptions],
    ) -> AsyncStream[ChatCompletionChunk]: ...
    @overload
    async def create(
        self,
        *,
        messages: Iterable[ChatCompletionMessageParam],
        model: str,
        stream: bool,
        **options: Unpack[ChatOptions],
    ) -> ConfidentialChatCompletion | AsyncStream[ChatCompletionChunk]: ...
    async def create(self, **options: object) -> object:  # pyright: ignore[reportIncompatibleMethodOverride]  # as above
        """Ask the model."""
        raise NotImplementedError


class AsyncConfidentialChat(AsyncChat):
    """``lg.chat`` of the asynchronous client."""

    @cached_property
    def completions(self) -> AsyncConfidentialCompletions:
        """Chat completions."""
        raise NotImplementedError
