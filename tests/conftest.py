"""What every test may use: how much Hypothesis tries, and that its seeds are printed."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# "ci" draws the same examples in every run, so a change is judged by what it changed; "long" draws new ones and is what
# finds faults nobody has met. What "long" has found and is not yet mended is in docs/OPERATIONS.md.
settings.register_profile(
    "ci", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
settings.register_profile("long", settings.get_profile("ci"), derandomize=False, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
