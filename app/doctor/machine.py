"""What Shapewright needs of the machine itself: interpreter, C compiler, headers, system libraries, disk.

Standard library only, because `tools/setup.py` asks these questions before anything is installed.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

OLDEST_PYTHON = (3, 12)

# What the gmsh wheel links against and does not carry (its graphical interface is in the same library), with
# the Debian and Ubuntu packages that bring each. OpenCASCADE needs a subset; pyvista draws by EGL where there
# is no display.
SYSTEM_LIBRARIES = {
    "libGLU.so.1": "libglu1-mesa",
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libX11.so.6": "libx11-6",
    "libXrender.so.1": "libxrender1",
    "libXcursor.so.1": "libxcursor1",
    "libXfixes.so.3": "libxfixes3",
    "libXext.so.6": "libxext6",
    "libXft.so.2": "libxft2",
    "libXinerama.so.1": "libxinerama1",
    "libfontconfig.so.1": "libfontconfig1",
    "libexpat.so.1": "libexpat1",
    "libgomp.so.1": "libgomp1",
}


@dataclass(frozen=True)
class Check:
    """One finding about this installation: what is there, whether it suffices, and what to do if not."""

    name: str
    found: str
    ok: bool
    needed_for: str
    remedy: str = ""


def check_python(version: Sequence[int] = sys.version_info[:3]) -> Check:
    """The interpreter's version, against the oldest one the finite-element wheel is built for."""
    oldest = ".".join(map(str, OLDEST_PYTHON))
    return Check(
        "Python",
        ".".join(map(str, version[:3])),
        tuple(version[:2]) >= OLDEST_PYTHON,
        "everything",
        f"install Python {oldest} or newer",
    )


def check_platform(system: str = platform.system(), machine: str = platform.machine()) -> Check:
    """Operating system and processor: the finite-element wheel exists for Linux on x86-64 alone."""
    return Check(
        "platform",
        f"{system} {machine}",
        (system, machine) == ("Linux", "x86_64"),
        "the pip packages of the finite-element and CAD libraries",
        "use conda-forge's packages instead: conda env create -f environment.yml",
    )


def compiler_command() -> list[str]:
    """The C compiler that compiles finite-element forms: $CC, else the one Python was built with, else cc."""
    chosen = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    return chosen if shutil.which(chosen[0]) else ["cc"]


def check_compiler() -> Check:
    """Compile and run a one-line C program with the compiler that forms will be compiled with."""
    command = compiler_command()
    remedy = "install a C compiler (Debian, Ubuntu: apt install build-essential)"
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "one.c"), Path(folder, "one")
        source.write_text("int main(void) { return 0; }\n")
        try:
            for step in ([*command, str(source), "-o", str(program)], [str(program)]):
                subprocess.run(step, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            return Check("C compiler", f"no {command[0]}", False, "compiling finite-element forms", remedy)
        except (subprocess.CalledProcessError, OSError) as error:
            said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            found = f"{command[0]} fails: {said[-1] if said else error}"
            return Check("C compiler", found, False, "compiling finite-element forms", remedy)
    return Check("C compiler", shutil.which(command[0]) or command[0], True, "compiling finite-element forms")


def check_headers() -> Check:
    """Whether this interpreter's C headers are installed: compiled forms are Python extension modules."""
    header = Path(sysconfig.get_path("include"), "Python.h")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Check(
        "Python headers",
        str(header) if header.is_file() else f"no {header}",
        header.is_file(),
        "compiling finite-element forms",
        f"install the interpreter's headers (Debian, Ubuntu: apt install python{version}-dev)",
    )


def check_system_libraries(libraries: dict[str, str] | None = None) -> Check:
    """Whether the system's shared libraries can be loaded (tried in a process of its own)."""
    wanted = SYSTEM_LIBRARIES if libraries is None else libraries
    program = (
        "import ctypes, sys\n"
        "for name in sys.argv[1:]:\n"
        "    try: ctypes.CDLL(name)\n"
        "    except OSError: print(name)\n"
    )
    command = [sys.executable, "-c", program, *wanted]
    missing = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    packages = " ".join(wanted[name] for name in missing)
    found = f"missing {', '.join(missing)}" if missing else f"all {len(wanted)} present"
    remedy = f"install them (Debian, Ubuntu: apt install {packages})" if missing else ""
    return Check("system libraries", found, not missing, "CAD, meshes and pictures", remedy)


def check_disk(folder: Path, needed_gib: float, purpose: str) -> Check:
    """Free space on the disk that holds `folder`, in GiB, against what `purpose` takes."""
    free = shutil.disk_usage(folder).free / 2**30
    return Check(
        "free disk",
        f"{free:.1f} GiB at {folder}",
        free >= needed_gib,
        purpose,
        f"free at least {needed_gib:g} GiB there",
    )
