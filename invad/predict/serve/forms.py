"""A file in a form, as `curl -F image=@picture.png` sends it: RFC 7578, and no more of it than one file needs."""

import re

from invad.predict.serve.limits import FORM, RefusalError

_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)


def image_of_form(body: bytes, content_type: str) -> bytes:
    """Return the image that a body is: that of its only field where it is a form, otherwise the body itself.

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
