"""What every test may use: how much Hypothesis tries, that its seeds are printed, and that reports can be sent."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

# Runs of scripts/test draw the same examples, by one seed, so that a change is judged by what it changed; "long" and
# other seeds are what finds faults nobody has met.
settings.register_profile("ci", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", settings.get_profile("ci"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# A shell's background job ignores it, and so would every program that a test starts, and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# else pyftpdlib makes a handler of its own for the output of the test that is first, which is closed when others log
logging.getLogger("pyftpdlib").addHandler(logging.NullHandler())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Names that are not UTF-8 are in many a log here, and stop the run where workers send them (execnet)."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report
