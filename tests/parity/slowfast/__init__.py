"""One check a kind of golden case: `check(case, tmp_path)` raises AssertionError where the port departs from it."""

from tests.parity.slowfast import network

CHECKS = network.CHECKS
