"""Set-up finds an interpreter or says why not, and never takes half an environment for a whole one."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def setup(tmp_path, monkeypatch) -> ModuleType:
    """tools/setup.py as a module, at work in an empty folder, with an installer that only notes its calls."""
    spec = importlib.util.spec_from_file_location("setup_under_test", ROOT / "tools/setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "STATE", tmp_path / ".venv/shapewright-setup")
    monkeypatch.setattr(module, "check_machine", lambda: None)
    monkeypatch.setattr(sys, "argv", ["setup.py"])
    monkeypatch.delenv("PYTHON", raising=False)
    module.steps = []

    def note(command: list[str], what: str) -> None:
        module.steps.append(what)
        python = module.VENV / "bin/python"
        if what == CREATE:
            python.parent.mkdir()
            python.symlink_to(sys.executable)

    monkeypatch.setattr(module, "run", note)
    return module


CREATE, INSTALL, DOCTOR = (
    "creating the virtual environment",
    "installing the packages",
    "the doctor's check of the result",
)


def test_first_run_does_every_step_and_the_second_none(setup) -> None:
    setup.main()
    assert setup.steps == [CREATE, INSTALL, DOCTOR]
    setup.main()
    assert setup.steps == [CREATE, INSTALL, DOCTOR]


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_changed_package_file_updates_in_place(setup, name) -> None:
    setup.main()
    with (setup.ROOT / name).open("a") as file:
        file.write("# changed\n")
    setup.main()
    assert setup.steps[3:] == [INSTALL, DOCTOR]


@pytest.mark.parametrize("at", [CREATE, INSTALL])
def test_set_up_killed_before_all_is_installed_is_made_anew(setup, monkeypatch, at) -> None:
    finish = setup.run

    def killed(command: list[str], what: str) -> None:
        finish(command, what)
        if what == at:
            raise SystemExit(137)

    monkeypatch.setattr(setup, "run", killed)
    with pytest.raises(SystemExit):
        setup.main()
    monkeypatch.setattr(setup, "run", finish)
    setup.steps.clear()
    setup.main()
    assert setup.steps == [CREATE, INSTALL, DOCTOR]


def test_failed_doctor_is_asked_again_without_another_install(setup, monkeypatch) -> None:
    finish = setup.run

    def unwell(command: list[str], what: str) -> None:
        finish(command, what)
        if what == DOCTOR:
            raise SystemExit(1)

    monkeypatch.setattr(setup, "run", unwell)
    with pytest.raises(SystemExit):
        setup.main()
    monkeypatch.setattr(setup, "run", finish)
    setup.steps.clear()
    setup.main()
    assert setup.steps == [DOCTOR]


def test_environment_that_was_copied_from_elsewhere_is_made_anew(setup) -> None:
    setup.main()
    setup.write_state(setup.STATE.read_text().strip() + "-old")
    setup.steps.clear()
    setup.main()
    assert setup.steps == [CREATE, INSTALL, DOCTOR]


def test_environment_whose_interpreter_is_gone_is_made_anew(setup) -> None:
    setup.main()
    (setup.VENV / "bin/python").unlink()
    setup.steps.clear()
    setup.main()
    assert setup.steps == [CREATE, INSTALL, DOCTOR]


def test_interpreter_that_is_asked_for_replaces_another(setup, monkeypatch) -> None:
    setup.main()
    setup.steps.clear()
    monkeypatch.setenv("PYTHON", sys.executable)
    setup.main()
    assert setup.steps == []
    monkeypatch.setattr(sys, "executable", shutil.which("bash"))
    setup.main()
    assert setup.steps == [CREATE, INSTALL, DOCTOR]


def test_environment_of_somebody_else_is_not_touched(setup) -> None:
    setup.VENV.mkdir()
    keepsake = setup.VENV / "keepsake"
    keepsake.touch()
    with pytest.raises(SystemExit, match="not its own"):
        setup.main()
    assert keepsake.exists()


def find_python(tmp_path: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run tools/setup.sh with a PATH that holds the basic tools and the stand-ins in tmp_path/bin alone."""
    checkout = tmp_path / "checkout"
    (checkout / "tools").mkdir(parents=True)
    shutil.copy(ROOT / "tools/setup.sh", checkout / "tools")
    (checkout / "tools/setup.py").write_text("import sys; print('chosen', sys.executable)\n")
    tools = tmp_path / "bin"
    tools.mkdir(exist_ok=True)
    for name in ("bash", "dirname", "tail"):
        (tools / name).symlink_to(shutil.which(name))
    bare = {"PATH": str(tools), "HOME": str(tmp_path), **changes}
    command = [shutil.which("bash"), str(checkout / "tools/setup.sh")]
    return subprocess.run(command, env=bare, capture_output=True, text=True, check=False)


def interpreter(path: Path, answer: str) -> None:
    """A stand-in for an interpreter whose probe ends with the given shell command."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!{shutil.which("bash")}\nif [ "$1" = -c ]; then {answer}; else echo "chosen $0"; fi\n')
    path.chmod(0o755)


def test_machine_without_a_usable_python_is_told_what_was_seen_and_what_to_install(tmp_path) -> None:
    interpreter(tmp_path / "bin/python3", "echo 'is Python 3.9' >&2; exit 1")
    interpreter(tmp_path / "bin/python3.12", "echo 'is Python 3.12 without ensurepip' >&2; exit 1")
    done = find_python(tmp_path)
    assert done.returncode == 1
    assert "python3: is Python 3.9\n" in done.stderr
    assert "python3.12: is Python 3.12 without ensurepip\n" in done.stderr
    assert "apt install python3.12 python3.12-venv python3.12-dev" in done.stderr


def test_the_tried_version_is_preferred_to_a_newer_one_wherever_it_lies(tmp_path) -> None:
    newer, tried = tmp_path / "bin/python3.13", tmp_path / ".pyenv/versions/3.12.9/bin/python"
    interpreter(newer, f"echo '3.13 {newer}'")
    interpreter(tried, f"echo '3.12 {tried}'")
    assert find_python(tmp_path).stdout == f"chosen {tried}\n"


def test_newer_version_is_taken_where_the_tried_one_is_not(tmp_path) -> None:
    newer = tmp_path / "bin/python3.13"
    interpreter(newer, f"echo '3.13 {newer}'")
    assert find_python(tmp_path).stdout == f"chosen {newer}\n"


def test_interpreter_can_be_named(tmp_path) -> None:
    interpreter(tmp_path / "bin/python3.12", "echo '3.12 ignored'")
    done = find_python(tmp_path, PYTHON=sys.executable)
    assert done.stdout == f"chosen {os.path.realpath(sys.executable)}\n"
    assert "nowhere: " in find_python(tmp_path / "again", PYTHON="/nowhere").stderr
