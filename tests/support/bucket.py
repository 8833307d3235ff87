"""What tests of repositories in buckets need."""

from __future__ import annotations

import sys

import pytest

HAS_OBSTORE = sys.version_info >= (3, 11)
"""The extra `cluster` brings it there alone: a device, which may be older, never opens a bucket."""
needs_obstore = pytest.mark.skipif(not HAS_OBSTORE, reason="obstore is installed on Python 3.11 or newer")
