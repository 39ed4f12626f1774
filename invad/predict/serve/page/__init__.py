"""The page to drop a picture on: one file, allowed to do nothing but what is in it."""

import base64
import hashlib
import re
from importlib.resources import files


def read_page() -> tuple[bytes, str]:
    """Return the page and its Content-Security-Policy, which names script and style by digests, so that no other would run."""
    content = files(__name__).joinpath("index.html").read_bytes()
    policy = {
        "default-src": "'none'",
        "script-src": _digest(content, b"script"),
        "style-src": _digest(content, b"style"),
        "img-src": "blob: data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return content, "; ".join(f"{name} {value}" for name, value in policy.items())


def _digest(content: bytes, element: bytes) -> str:
    (text,) = re.findall(rb"<%b>(.*?)</%b>" % (element, element), content, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode('ascii')}'"
