"""Freed memory is reused without asking the system again."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# Page faults of ten times 40 MB, allocated, written and freed, after two times of warm-up.
SCRIPT = """
import ctypes, resource, sys
from msn_mm.utils.host_memory import keep_freed_memory
print(keep_freed_memory() if "tune" in sys.argv else None)
c = ctypes.CDLL(None)
size, pointer = ctypes.c_size_t, ctypes.c_void_p
c.malloc.restype, c.malloc.argtypes, c.free.argtypes = pointer, [size], [pointer]
c.memset.argtypes = [pointer, ctypes.c_int, size]
for turn in range(12):
    if turn == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = c.malloc(40_000_000)
    c.memset(block, 1, 40_000_000)
    c.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(*args: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *args],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.skipif(not hasattr(os, "confstr"), reason="glibc's numbers")
def test_no_page_is_asked_for_twice():
    (_, untuned), (done, tuned) = run(), run("tune")
    if done != "True":
        pytest.skip("this C library is not glibc")
    assert int(untuned) > 10 * 40_000_000 // 2**16  # pages of 64 kB at most, each time
    assert int(tuned) < 100


def test_an_allocator_that_the_user_tuned_is_left_alone():
    assert run("tune", MALLOC_TOP_PAD_="131072")[0] == "False"
    assert run("tune", GLIBC_TUNABLES="glibc.malloc.tcache_count=7")[0] == "False"
