"""The operations that this release answers, by the name that `outer.operation` gives them."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from latensgate_enclave.chat_operation import ChatOperation
from latensgate_enclave.dry_run_operation import DryRunOperation
from latensgate_enclave.embeddings_operation import EmbeddingsOperation
from latensgate_enclave.responses_operation import ResponsesOperation
from latensgate_shared.messages import DRY_RUN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from latensgate_enclave.operation import Operation

SERVED: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "chat.completions": ChatOperation(),
        "embeddings": EmbeddingsOperation(),
        "responses": ResponsesOperation(),
        DRY_RUN: DryRunOperation(),
    }
)
