"""What the service takes of a request's body, and how it says no: with an `HTTPException`."""

import re

from fastapi import HTTPException, Request
from starlette.requests import ClientDisconnect

from invad.predict.serve import Limits

FORM = "multipart/form-data"  # `curl -F`
CONTENT_TYPES = ("image/*", "application/octet-stream", FORM)
# What a page of another site can send without asking first, which the service does not answer; but browsers add `Origin` then. The
# second is what `curl --data-binary` says, and nothing what most libraries do.
_SIMPLE = (FORM, "application/x-www-form-urlencoded", "")
_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)


async def read_body(request: Request, limits: Limits) -> bytes:
    """Return the body, of which no more than the limit is kept, whatever its headers say.

    Raises:
        HTTPException: 415 for another content type, or one that a page of another site could send, 413 for a body that is too long, 400
            for an empty one or one that breaks off.
    """
    kind = _kind(request.headers.get("content-type", ""))
    is_foreign = "origin" in request.headers
    if not (kind.startswith("image/") or kind == CONTENT_TYPES[1] or (kind in _SIMPLE and not is_foreign)):
        accepted, given = CONTENT_TYPES[: 2 if is_foreign else 3], f"not {kind[:100]}" if kind else "and none is given"
        raise HTTPException(415, f"Content-Type: expected one of {', '.join(accepted)}, {given}")
    too_long = HTTPException(413, f"the body is too long; at most {limits.max_bytes} bytes are accepted")
    if int(request.headers.get("content-length", 0)) > limits.max_bytes:  # the HTTP parser lets nothing but digits pass
        raise too_long
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limits.max_bytes:
                raise too_long
    except ClientDisconnect:
        raise HTTPException(400, "the body broke off") from None
    if not body:
        raise HTTPException(400, "the body is empty; expected an image")
    return bytes(body)


def image_of_form(body: bytes, content_type: str) -> bytes:
    """Return the image that a body is: that of its only field where it is a form (RFC 7578), otherwise the body itself.

    Args:
        body: As it was sent.
        content_type: As it was sent, with its parameters.

    Raises:
        HTTPException: 400 for a form that is damaged, or holds anything else than one file.
    """
    if _kind(content_type) != FORM:
        return body
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise HTTPException(400, f"Content-Type: {FORM} has no boundary")
    boundary = b"\r\n--" + (match[1] or match[2]).encode("latin-1")
    pieces = (b"\r\n" + body).split(boundary, 3)  # before the first field, fields, the end
    if len(pieces) > 2 and not pieces[2].startswith(b"--"):
        raise HTTPException(400, "the form has several fields; expected an image alone, and parameters in the address")
    data = pieces[1].partition(b"\r\n\r\n")[2] if len(pieces) > 2 else b""
    if not data:
        raise HTTPException(400, "the form is damaged, or empty; expected an image as its only field")
    return data


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
