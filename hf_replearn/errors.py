"""The one exception a user causes and can mend."""


class InputError(ValueError):
    """Bad settings or data. The message is one line that names the offending value and what to do.

    Recipes end with exit code 2 and this line, without a traceback, before any training has started.
    """
