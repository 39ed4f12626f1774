"""The one exception that stands for a mistake in the user's input."""


class InputError(Exception):
    """Something given to the program is wrong: a setting, a file, a folder.

    The message is one line that names the file or key and says what would be right. The command line prints it and exits with code 2.
    """
