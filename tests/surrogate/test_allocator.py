"""The allocator takes the setting, and says so, where it is glibc's."""

import platform
import subprocess
import sys

PROGRAM = "from shapewright.surrogate.training.allocator import keep_freed_memory; print(keep_freed_memory())"


def test_says_whether_it_did_anything():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(platform.libc_ver()[0] == "glibc")
