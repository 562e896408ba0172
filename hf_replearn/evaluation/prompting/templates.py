"""Templates of task files: sandboxed, and bounded in time, memory and length, since a task file may be anybody's."""

from __future__ import annotations

import math
import re
import resource
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, meta
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

SECONDS = 2.0  # of processor time, for one document
MEMORY = 2**30  # bytes more than before
LONGEST = 1_000_000  # characters of a text
# What rendering can raise, as jinja2 says itself: whatever the functions and filters raise that a template calls.
FATAL = (MemoryError, RecursionError, SecurityError, TimeoutError)  # not the fault of one document
FAILURES = (
    ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, SyntaxError, TemplateError, TimeoutError,
    TypeError, ValueError, re.error,
)  # fmt: skip


def compile_template(source: str) -> Template:
    """Raises one of `FAILURES`. Bounded, since jinja2 computes here already what is constant in a template."""
    with bounded():
        return _ENVIRONMENT.from_string(source)


def columns_of(source: str) -> set[str]:
    """The names that a template expects from a row."""
    return meta.find_undeclared_variables(_ENVIRONMENT.parse(source))


def render(template: Template, row: Mapping[str, Any]) -> str:
    """The text for a row. Raises one of `FAILURES`."""
    text = template.render(**row)
    if len(text) > LONGEST:
        raise ValueError(f"makes a text of {len(text):,} characters, {LONGEST:,} are allowed")
    return text


@contextmanager
def bounded() -> Iterator[None]:
    """Ends what takes too long with TimeoutError, and what wants too much memory with MemoryError.

    The bounds are the operating system's, so that they hold inside a regular expression, a multiplication and a filter
    too. The clock is a signal, which only a process's main thread can set: in another there is none.
    """

    too_long = f"takes more than {SECONDS:g} seconds"
    fired = []

    def stop(*_) -> None:
        fired.append(True)
        raise TimeoutError(too_long)

    main = threading.current_thread() is threading.main_thread()
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    limits = [limit for limit in (*before, used + MEMORY) if limit != resource.RLIM_INFINITY]
    handler = signal.signal(signal.SIGVTALRM, stop) if main else None
    resource.setrlimit(resource.RLIMIT_AS, (min(limits), before[1]))
    try:
        if main:  # again and again, since jinja2 catches what the computing of a constant raises, and goes on
            signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS, SECONDS / 20)
        yield
    finally:
        if main:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)
    if fired:
        raise TimeoutError(too_long)


def reason_of(error: BaseException) -> str:
    """One short line; a few classes say nothing of themselves."""
    said = {MemoryError: "wants too much memory", RecursionError: "calls itself without an end"}
    text = " ".join(str(error).split()) or type(error).__name__
    return next((reason for kind, reason in said.items() if isinstance(error, kind)), text[:300])


def _replace(text: str, pattern: str, new: str, count: int = 0) -> str:
    return re.sub(pattern, new, text, count=count)


def _refuse_nothing(value: Any) -> Any:
    """What `{{column}}` may write. A null would stand in the prompt as the word None."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise ValueError(f"a value is missing ({value})")
    return value


_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, keep_trailing_newline=True, finalize=_refuse_nothing
)
_ENVIRONMENT.filters["regex_replace"] = _replace
del _ENVIRONMENT.filters["random"], _ENVIRONMENT.globals["lipsum"]  # a prompt is the same whenever it is made
