"""The command with a home of its own."""

from __future__ import annotations

from tests.cli.conftest import portside, storage

__all__ = ["portside", "storage"]
