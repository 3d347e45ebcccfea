"""What every test may use: how much Hypothesis tries, and that its seeds are printed."""

from __future__ import annotations

import logging
import os

from hypothesis import HealthCheck, settings

# Runs of scripts/test draw the same examples, by one seed, so that a change is judged by what it changed; "long" and
# other seeds are what finds faults nobody has met.
settings.register_profile("ci", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", settings.get_profile("ci"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# else pyftpdlib makes a handler of its own for the output of the test that is first, which is closed when others log
logging.getLogger("pyftpdlib").addHandler(logging.NullHandler())
