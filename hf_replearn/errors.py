"""How a run ends other than well. Each of these is one line that says what to do; no traceback is shown."""


class InputError(ValueError):
    """Bad settings or data. The message is one line that names the offending value and what to do.

    Recipes end with exit code 2 and this line, without a traceback, before any training has started.
    """

    exit_code = 2


class TrainingError(RuntimeError):
    """The training cannot go on: a loss that is not finite, a checkpoint that cannot be written."""

    exit_code = 1


class Preempted(TrainingError):
    """Told to stop by SIGTERM or SIGINT, and saved: the same command goes on (75 is EX_TEMPFAIL of sysexits.h)."""

    exit_code = 75


class NotPushed(TrainingError):
    """All is on disk, but the Hub did not take it (69 is EX_UNAVAILABLE of sysexits.h)."""

    exit_code = 69
