"""Time and peak memory of one computation, in a process of its own that has a limit of both."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

STATUS, PEAK_RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Limits:
    """Of one measurement: processor seconds with building, bytes beyond those at its start, and enough of repeating."""

    seconds: float
    memory: int
    repeats: int = 5
    enough: float = 1.0


@dataclass(frozen=True)
class Measured:
    """Medians of processor and wall seconds, and peak memory in MiB; or the reason why there are none."""

    processor: float | None = None
    wall: float | None = None
    mib: float | None = None
    reason: str = ""


def isolated(build: Callable[[], Callable[[], Any]], limits: Limits) -> Measured:
    """Fork, ``build`` a computation, and measure it: what building and warming up take does not count."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_measure, args=(build, limits, sender), daemon=True)
    child.start()
    sender.close()
    try:
        while not receiver.poll(0.05) and processor_seconds(child.pid) < limits.seconds:
            pass
        found = receiver.recv() if receiver.poll() else Measured(reason=f"over {limits.seconds:g} s")
    except EOFError:
        found = Measured(reason="the process died")
    child.kill()
    child.join()
    return found


def processor_seconds(process: int) -> float:
    """What a process has used so far; the kernel's own limit on it would make the process's clock coarse."""
    after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, after_name[11:13])) / os.sysconf("SC_CLK_TCK")


def _measure(build: Callable[[], Callable[[], Any]], limits: Limits, sender: Connection) -> None:
    try:
        compute = build()
        space = kib("VmSize") * 1024 + limits.memory
        resource.setrlimit(resource.RLIMIT_AS, (space, space))
        ctypes.CDLL(None).malloc_trim(0)  # what warming up left free would hide what the computation needs
        PEAK_RESET.write_text("5")
        before = kib("VmRSS")
        processor, wall, started = [], [], time.perf_counter()
        while len(wall) < limits.repeats and time.perf_counter() - started < limits.enough:
            of_processor, of_wall = time.process_time(), time.perf_counter()
            compute()
            processor.append(time.process_time() - of_processor)
            wall.append(time.perf_counter() - of_wall)
        mib = max(0.0, (kib("VmHWM") - before) / 1024)
        sender.send(Measured(statistics.median(processor), statistics.median(wall), mib))
    except (MemoryError, RuntimeError) as error:
        short = "alloc" in str(error) or isinstance(error, MemoryError)
        reason = f"needs over {limits.memory / 2**30:.1f} GiB" if short else f"{type(error).__name__}: {error}"
        sender.send(Measured(reason=reason))


def kib(name: str) -> int:
    """An entry of the kernel's account of this process, in KiB."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])


def available() -> int:
    """Bytes of memory that the machine has to give."""
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable:"))
    return int(line.split()[1]) * 1024
