"""The one exception that stands for a mistake in the user's input."""

import re

_LONGEST = 2000  # characters of a message
# Control characters, those that turn the direction of text, and surrogates: a name or a library may bring them.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class InputError(Exception):
    """Something given to the program is wrong: a setting, a file, a folder.

    The message is one line that names the file or key and says what would be right: lines of a library are joined, characters that cannot
    be seen are escaped, and what is far too long is shortened in its middle. The command line prints it and exits with code 2.
    """

    def __init__(self, message: str = "") -> None:
        line = _UNSEEN.sub(lambda match: ascii(match[0])[1:-1], re.sub(r"\s*[\r\n]\s*", " ", message.strip()))
        if len(line) > _LONGEST:
            line = f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 + 5 :]}"
        super().__init__(line)
