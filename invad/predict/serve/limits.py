"""What the service takes, and how it says no."""

import re
from collections.abc import Iterable

from fastapi import Request
from starlette.requests import ClientDisconnect

from invad.predict.serve import Limits

IMAGE_TYPES = ("image/png", "image/jpeg", "image/bmp", "image/tiff", "image/webp", "application/octet-stream")
"""Of a body that is an image. None can be sent by a page of another site without asking first, which the service does not answer."""

FORM = "multipart/form-data"  # `curl -F`
CONTENT_TYPES = (*IMAGE_TYPES, FORM)
# What `curl --data-binary` says of a body where nobody says anything, and what most libraries leave out then. Pages of other sites can
# send these and forms without asking, but browsers add `Origin`.
_UNSAID = ("application/x-www-form-urlencoded", "")

_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)

PARAMETERS = ("heatmap", "class")
_ALIASES = frozenset({"image/jpg", "image/pjpeg", "image/x-png", "image/x-bmp", "image/x-ms-bmp", "image/tif"})


class RefusalError(Exception):
    """A request gets no prediction: `status` and `reason` are the answer, `headers` come with it."""

    def __init__(self, status: int, reason: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, headers or {}


def check_parameters(given: Iterable[tuple[str, str]]) -> None:
    """Check the names of the parameters of /predict, as (name, value) in the order of the address.

    Raises:
        RefusalError: 400 for one that there is not, which would otherwise leave an answer that was not asked for, or one given twice.
    """
    seen = set()
    for name, _ in given:
        if name not in PARAMETERS:
            raise RefusalError(400, f"{name[:100]!r}: unknown parameter; there are {' and '.join(PARAMETERS)}")
        if name in seen:
            raise RefusalError(400, f"{name}: is given twice")
        seen.add(name)


def check_head(request: Request, limits: Limits) -> None:
    """Check what the headers say of the body.

    Raises:
        RefusalError: 415 for another content type, or one that a page of another site could send, 413 for a body that is too long.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_image = content_type in IMAGE_TYPES or content_type in _ALIASES
    if not is_image and (content_type not in (FORM, *_UNSAID) or "origin" in request.headers):
        accepted = IMAGE_TYPES if "origin" in request.headers else CONTENT_TYPES
        given = f"not {content_type[:100]}" if content_type else "and none is given"
        raise RefusalError(415, f"Content-Type: expected one of {', '.join(accepted)}, {given}")
    if int(request.headers.get("content-length", 0)) > limits.max_bytes:  # the HTTP parser lets nothing but digits pass
        raise _too_long(limits)


async def read_body(request: Request, limits: Limits) -> bytes:
    """Return the body, of which no more than the limit is kept, whatever its headers say.

    Raises:
        RefusalError: 400 for an empty body or one that breaks off, 413 for one that is too long.
    """
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limits.max_bytes:
                raise _too_long(limits)
            chunks.append(chunk)
    except ClientDisconnect:
        raise RefusalError(400, "the body broke off") from None
    if not size:
        raise RefusalError(400, "the body is empty; expected an image")
    return b"".join(chunks)


def image_of_form(body: bytes, content_type: str) -> bytes:
    """Return the image that a body is: that of its only field where it is a form (RFC 7578), otherwise the body itself.

    Args:
        body: As it was sent.
        content_type: As it was sent, with its parameters.

    Raises:
        RefusalError: 400 for a form that is damaged, or holds anything else than one file.
    """
    if content_type.partition(";")[0].strip().lower() != FORM:
        return body
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise RefusalError(400, f"Content-Type: {FORM} has no boundary")
    boundary = b"\r\n--" + (match[1] or match[2]).encode("latin-1")
    pieces = (b"\r\n" + body).split(boundary, 3)  # before the first field, fields, the end
    if len(pieces) < 3:
        raise RefusalError(400, "the form is damaged, or empty; expected an image as its only field")
    if not pieces[2].startswith(b"--"):
        raise RefusalError(400, "the form has several fields; expected an image alone, and parameters in the address")
    _, separator, data = pieces[1].partition(b"\r\n\r\n")
    if not separator:
        raise RefusalError(400, "the form is damaged; expected an image as its only field")
    if not data:
        raise RefusalError(400, "the file in the form is empty; expected an image")
    return data


def _too_long(limits: Limits) -> RefusalError:
    return RefusalError(413, f"the body is too long; at most {limits.max_bytes} bytes are accepted")
