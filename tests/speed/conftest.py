"""The run with a lamp of the tests of students."""

from tests.distill.conftest import run, store, teacher

__all__ = ["run", "store", "teacher"]
