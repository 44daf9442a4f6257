"""Keep freed memory in the process: tensors of tens of MiB are made and dropped many times a step."""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h of glibc


def keep_freed_memory(keep: int = 2**31 - 1) -> bool:
    """Tell glibc's allocator to hold up to ``keep`` freed bytes instead of returning them to the kernel.

    Without it every large tensor is mapped, zeroed and unmapped anew. Does nothing, and says so by False, on other C
    libraries.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_M_MMAP_MAX, 0) and libc.mallopt(_M_TRIM_THRESHOLD, keep))
