"""The answer to one call, as frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latensgate_shared.frames import End, Head, split_body

if TYPE_CHECKING:
    from latensgate_enclave.session import Session
    from latensgate_shared.frames import HeadMap


class FrameReply:
    """The answer to one call. Implements ``session.Reply``.

    Args:
        session: Its connection.
        call_id: The call.
    """

    def __init__(self, session: Session, call_id: int) -> None:
        self._session = session
        self._call_id = call_id
        self.drained = session.drained

    def head(self, fields: HeadMap) -> None:
        """Begin the answer."""
        self._session.write(Head(self._call_id, fields))

    def body(self, data: bytes) -> None:
        """Send a piece of the body."""
        self._session.write(*split_body(self._call_id, data))

    def end(self, fields: HeadMap, body: bytes = b"") -> None:
        """Send the last piece of the body and finish the answer."""
        end = End(self._call_id, fields)
        self._session.write(*split_body(self._call_id, body), end, last=True)
