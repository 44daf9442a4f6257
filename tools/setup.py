"""Make the environment `.venv` in this checkout: `make setup`, which finds the interpreter, runs this.

`.venv/shapewright-setup` says how far a set-up got: `installing`, `installed KEY ROOT` or `ready KEY ROOT`.
KEY hashes the two package files; ROOT is the checkout's folder, which the environment's scripts name. So a
finished environment is left alone, one that is out of date is updated, and one that was moved or cut off is
made anew: pip takes a package whose files were half copied for an installed one.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from shapewright.app.doctor import machine  # noqa: E402  (the checkout is not installed yet)

VENV = ROOT / ".venv"
STATE = VENV / "shapewright-setup"
NEEDED_GIB = 12.0
DOCTOR = (
    "import sys; from shapewright.app.doctor.doctor import diagnose, print_report;"
    " sys.exit(not print_report(diagnose()))"
)


def environment_key() -> str:
    """Hash of the two package files and the checkout's folder, as the state file holds them."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((ROOT / name).read_bytes())
    return f"{digest.hexdigest()} {ROOT}"


def write_state(text: str) -> None:
    """Replace the state file in one step, so that no reader sees half of it."""
    fresh = STATE.with_suffix(".new")
    fresh.write_text(text + "\n")
    os.replace(fresh, STATE)


def read_state() -> str:
    """How far the last set-up got; empty where there was none."""
    return STATE.read_text().strip() if STATE.is_file() else ""


def check_machine() -> None:
    """Stop before the download, naming everything that is missing at once."""
    checks = [
        machine.check_platform(),
        machine.check_compiler(),
        machine.check_headers(),
        machine.check_system_libraries(),
        machine.check_disk(ROOT, NEEDED_GIB, "the installed packages and their downloads"),
    ]
    missing = [f"  {c.name}: {c.found} (for {c.needed_for}). {c.remedy}" for c in checks if not c.ok]
    if missing:
        sys.exit("\n".join(["make setup: this machine lacks something.", *missing]))


def is_reusable(state: str) -> bool:
    """Whether `.venv` was once whole, lies where it was made, has the Python asked for, and runs."""
    if not state.startswith(("installed ", "ready ")) or not state.endswith(f" {ROOT}"):
        return False
    python = VENV / "bin/python"
    if os.environ.get("PYTHON") and python.resolve() != Path(sys.executable).resolve():
        return False
    return python.exists() and subprocess.run([str(python), "-c", ""], check=False).returncode == 0


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Hold a lock on the checkout's folder, so that two set-ups do not write one environment."""
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("make setup: waiting for another set-up of this checkout", flush=True)
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def start_environment() -> None:
    """Leave an empty environment of this interpreter in `.venv`, in place of one that was cut off."""
    if VENV.exists():
        if not STATE.is_file():
            sys.exit(f"make setup: {VENV} is not its own. Move it away or delete it, then try again.")
        print(f"make setup: {VENV} is unfinished, moved or another Python's; making it anew", flush=True)
        shutil.rmtree(VENV)
    VENV.mkdir()
    write_state("installing")
    run([sys.executable, "-m", "venv", str(VENV)], "creating the virtual environment")


def install() -> None:
    """Install the program and its pinned dependencies into `.venv`."""
    print("make setup: downloads about 3 GB, CUDA's libraries most of it", flush=True)
    # Downloads go beside what they become: a small /tmp cannot fill up, and a kill leaves nothing in it.
    downloads = VENV / "downloads"
    downloads.mkdir(exist_ok=True)
    command = ["env", f"TMPDIR={downloads}", str(VENV / "bin/python"), "-m", "pip", "install", "--no-input"]
    run([*command, "-c", "constraints.txt", "-e", ".[test]"], "installing the packages")
    shutil.rmtree(downloads)


def run(command: list[str], what: str) -> None:
    """Run a step in the checkout; where it fails, its own messages stand above the last one."""
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    if status:
        sys.exit(f"make setup: {what} failed (exit code {status}); its messages are above.")


def main() -> None:
    """Bring `.venv` up to date and let the doctor look at it; with `--is-current`, only say whether it is."""
    key = environment_key()
    if "--is-current" in sys.argv[1:]:
        sys.exit(read_state() != f"ready {key}")
    with only_one():
        state = read_state()
        reusable = is_reusable(state)
        if reusable and state == f"ready {key}":
            return
        started = time.monotonic()
        print(f"make setup: {sys.executable} makes {VENV}", flush=True)
        check_machine()
        if not reusable:
            start_environment()
        if not reusable or state != f"installed {key}":
            write_state("installing")
            install()
            write_state(f"installed {key}")
        run([str(VENV / "bin/python"), "-c", DOCTOR], "the doctor's check of the result")
        write_state(f"ready {key}")
        print(f"make setup: done in {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("make setup: interrupted; the next make setup goes on")
