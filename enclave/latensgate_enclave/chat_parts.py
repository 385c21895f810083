"""Images, documents and sounds of a message, out of data URLs and base64.

Nothing is fetched: an address that leads out of the request is refused. Documents that are text are
decoded, so that the scan sees them; what is binary goes on unseen, and the receipt counts it.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final

from latensgate_enclave.chat_values import Attachment, RequestInvalidError, UnsupportedError
from latensgate_enclave.chat_wire import AudioPartWire, FilePartWire, ImagePartWire

if TYPE_CHECKING:
    from latensgate_enclave.chat_values import AttachmentKind

_IMAGES: Final = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/jpg": "jpeg",
    "image/gif": "gif",
    "image/webp": "webp",
}
_DOCUMENTS: Final = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}
_HEAD_MAX_CHARS: Final = 256
"""Of a data URL before its data: a media type and some parameters."""
_EXTENSIONS: Final = frozenset(_DOCUMENTS.values())
_TEXTS: Final = frozenset({"csv", "html", "txt", "md"})


def read_attachment(
    part: ImagePartWire | FilePartWire | AudioPartWire, at: int, place: str
) -> Attachment:
    """Read a part that is no text.

    Args:
        part: As parsed.
        at: How many texts of its message stand before it.
        place: Path of the part.

    Raises:
        UnsupportedError: A format that no model takes, or content that is somewhere else.
        RequestInvalidError: Not base64, or no content at all.
    """
    if isinstance(part, ImagePartWire):
        return _image(part, at, place)
    if isinstance(part, AudioPartWire):
        sound = part.input_audio
        data = _base64(sound.data, f"{place}.input_audio.data")
        return Attachment("audio", sound.format, data, None, at, place)
    return _document(part, at, place)


def _image(part: ImagePartWire, at: int, place: str) -> Attachment:
    param = f"{place}.image_url.url"
    media, data = _data_url(part.image_url.url, param)
    form = _IMAGES.get(media)
    if form is None:
        raise UnsupportedError("images are taken as png, jpeg, gif or webp", param=param)
    return Attachment("image", form, _base64(data, param), None, at, place)


def _document(part: FilePartWire, at: int, place: str) -> Attachment:
    if part.file.file_id is not None:
        raise UnsupportedError(
            "nothing is stored here: send the content as file_data", param=f"{place}.file.file_id"
        )
    param = f"{place}.file.file_data"
    given = part.file.file_data
    if not given:
        raise RequestInvalidError("a file has no content", param=param)
    named = (part.file.filename or "").rpartition(".")[2].lower()
    media, data = _data_url(given, param) if given.startswith("data:") else ("", given)
    form = _DOCUMENTS.get(media) or (named if named in _EXTENSIONS else None)
    if form is None:
        kind: AttachmentKind = "document"
        raise UnsupportedError(f"the format of this {kind} is not known", param=param)
    data = _base64(data, param)
    if form not in _TEXTS:
        return Attachment("document", form, data, None, at, place)
    try:
        text = base64.b64decode(data).decode()
    except UnicodeDecodeError:
        raise RequestInvalidError("a text document is not UTF-8", param=param) from None
    if not text.strip():
        raise RequestInvalidError("a text document is empty", param=param)
    return Attachment("document", form, "", text, at, place)


def _data_url(url: str, param: str) -> tuple[str, str]:
    """Return media type and base64 of a data URL (RFC 2397)."""
    head, comma, data = url.partition(",")
    if len(head) > _HEAD_MAX_CHARS:
        raise UnsupportedError("only data URLs are taken: nothing is fetched", param=param)
    scheme, _, rest = head.partition(":")
    media, *parameters = rest.lower().split(";")
    if scheme.lower() != "data" or not comma:
        raise UnsupportedError("only data URLs are taken: nothing is fetched", param=param)
    if not parameters or parameters[-1].strip() != "base64":
        raise UnsupportedError("only data URLs with base64 are taken", param=param)
    return media.strip(), data


def _base64(data: str, param: str) -> str:
    try:
        decoded = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise RequestInvalidError("content that is not base64", param=param) from None
    if not decoded:
        raise RequestInvalidError("empty content", param=param)
    return data
