"""The doctor names what is wrong and what mends it, and survives whatever it looks at."""

import os
import signal
from dataclasses import FrozenInstanceError, replace

import pytest

from shapewright.app.doctor import doctor
from shapewright.app.doctor.doctor import Dependency, check_dependency, diagnose, print_report, run_apart
from shapewright.app.doctor.machine import Check

GOOD = Check("numpy", "2.5", True, "arrays")
BAD = Check("gmsh", "4.15, but importing it fails", False, "CAD and meshes", "apt install libglu1-mesa")


def test_finding_is_a_value() -> None:
    with pytest.raises(FrozenInstanceError):
        GOOD.ok = False


def test_program_that_crashes_is_reported_not_suffered() -> None:
    works, said = run_apart(f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})")
    assert not works
    assert said == f"the process was ended by signal {int(signal.SIGSEGV)}"


def test_program_that_hangs_is_given_up() -> None:
    assert run_apart("import time; time.sleep(60)", timeout=0.5) == (False, "no answer within 0.5 s")


def test_dependency_that_cannot_be_imported_says_why_and_what_mends_it() -> None:
    check = check_dependency(Dependency("numpy", "import no_such_module", "arrays"))
    assert not check.ok
    assert "No module named 'no_such_module'" in check.found
    assert "make setup" in check.remedy


def test_missing_system_library_is_named_with_its_package() -> None:
    program = "raise OSError('libGLU.so.1: cannot open shared object file')"
    check = check_dependency(Dependency("gmsh", program, "CAD and meshes"))
    assert "libglu1-mesa" in check.remedy


def test_dependency_that_is_absent_under_its_pip_name_but_imports_is_well() -> None:
    check = check_dependency(Dependency("no-such-distribution", "import json", "nothing"))
    assert check.ok
    assert check.found == "version unknown"


@pytest.mark.parametrize(
    ("answer", "driver", "ok", "found"),
    [
        ((True, "H100, 80 GiB, CUDA 13.2"), "/usr/bin/nvidia-smi", True, "H100, 80 GiB, CUDA 13.2"),
        ((True, ""), None, True, "none; the CPU is used"),
        ((True, ""), "/usr/bin/nvidia-smi", False, "nvidia-smi is here, but torch sees no device"),
        ((False, "no kernel image"), "/usr/bin/nvidia-smi", False, "torch cannot use it: no kernel image"),
    ],
)
def test_gpu_is_optional_but_an_unusable_one_is_a_fault(monkeypatch, answer, driver, ok, found) -> None:
    monkeypatch.setattr(doctor, "run_apart", lambda program: answer)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: driver)
    check = doctor.check_gpu()
    assert (check.ok, check.found) == (ok, found)


def test_report_is_well_only_if_every_check_is(capsys) -> None:
    assert print_report([GOOD])
    assert "Nothing is missing." in capsys.readouterr().out
    assert not print_report([GOOD, BAD])
    said = capsys.readouterr().out
    assert "gmsh: apt install libglu1-mesa" in said
    assert "Nothing is missing." not in said


def test_report_prints_square_brackets_as_they_are(capsys) -> None:
    print_report([replace(BAD, remedy="pip install -e .[test]")])
    assert "pip install -e .[test]" in capsys.readouterr().out


@pytest.mark.slow
def test_diagnosis_of_this_installation_covers_all_and_finds_the_libraries_well(tmp_path) -> None:
    checks = {check.name: check for check in diagnose(tmp_path)}
    names = {item.distribution for item in doctor.DEPENDENCIES}
    assert names | {"Python", "C compiler", "Python headers", "threads", "free disk", "GPU"} <= set(checks)
    assert not [check for name, check in checks.items() if name in names and not check.ok]
    assert f"{len(os.sched_getaffinity(0))} cores" in checks["threads"].found
