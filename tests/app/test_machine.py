"""Each thing a machine may lack is found before anything is downloaded, and named with its mend."""

import sysconfig
from pathlib import Path

import pytest

from shapewright.app.doctor import machine


@pytest.mark.parametrize(("version", "ok"), [((3, 11, 7), False), ((3, 12, 0), True), ((3, 14, 2), True)])
def test_python_older_than_the_wheels_is_refused(version, ok) -> None:
    check = machine.check_python(version)
    assert check.ok is ok
    assert check.found == ".".join(map(str, version))


@pytest.mark.parametrize(("system", "processor"), [("Darwin", "arm64"), ("Linux", "aarch64")])
def test_platform_without_wheels_is_pointed_to_conda(system, processor) -> None:
    check = machine.check_platform(system, processor)
    assert not check.ok
    assert "environment.yml" in check.remedy


def test_working_compiler_is_found(monkeypatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    assert machine.check_compiler().ok


def test_compiler_that_fails_is_quoted(monkeypatch, tmp_path) -> None:
    broken = tmp_path / "broken-cc"
    broken.write_text("#!/bin/sh\necho 'no stdio today' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    check = machine.check_compiler()
    assert not check.ok
    assert "no stdio today" in check.found


def test_no_compiler_at_all_is_named(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    check = machine.check_compiler()
    assert (check.ok, check.found) == (False, "no cc")
    assert "build-essential" in check.remedy


def test_missing_headers_are_named_by_path(monkeypatch, tmp_path) -> None:
    assert machine.check_headers().ok
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    check = machine.check_headers()
    assert not check.ok
    assert str(tmp_path / "Python.h") in check.found


def test_missing_system_library_is_named_with_its_package() -> None:
    check = machine.check_system_libraries({"libc.so.6": "libc6", "libabsent.so.9": "libabsent9"})
    assert (check.ok, check.found) == (False, "missing libabsent.so.9")
    assert check.remedy.endswith("apt install libabsent9)")


def test_disk_is_held_against_what_is_needed() -> None:
    assert machine.check_disk(Path("/"), 0.0, "nothing").ok
    check = machine.check_disk(Path("/"), 1e9, "everything")
    assert not check.ok
    assert "1e+09 GiB" in check.remedy
