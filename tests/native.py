"""What tests of the native servo share."""

import pytest

from w4rl_fast.robot.servo import native

needs_native = pytest.mark.skipif(native() is None, reason="the native servo was not built")
