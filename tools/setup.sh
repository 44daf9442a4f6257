#!/usr/bin/env bash
# Finds a Python that can host the environment and hands over to tools/setup.py, which makes .venv.
# An interpreter of one's own choice: make setup PYTHON=/path/to/python3.12
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${PYTHON:-}" ] && [ -x .venv/bin/python ] && .venv/bin/python tools/setup.py --is-current 2>/dev/null; then
    exit 0
fi

# Prints "MAJOR.MINOR PATH" for an interpreter that will do, or exits with the reason why it will not.
# The real path, so that an activated .venv leads to the interpreter beneath it.
probe='
import os, sys
if sys.version_info < (3, 12):
    sys.exit("is Python %d.%d" % tuple(sys.version_info[:2]))
try:
    import ensurepip, venv, ssl, ctypes
except ImportError as error:
    sys.exit("is Python %d.%d without %s" % (tuple(sys.version_info[:2]) + (error.name,)))
print("%d.%d %s" % (tuple(sys.version_info[:2]) + (os.path.realpath(sys.executable),)))
'

candidates() {
    if [ -n "${PYTHON:-}" ]; then
        echo "$PYTHON"
        return
    fi
    # The versions in constraints.txt were tried with 3.12, so that one comes first.
    local name
    for name in python3.12 python3.13 python3.14 python3.15 python3 python; do
        type -aP "$name" || true
    done
    compgen -G "${PYENV_ROOT:-$HOME/.pyenv}/versions/*/bin/python" || true
    compgen -G "$HOME/.local/share/uv/python/*/bin/python3" || true
}

best="" best_version="" refused="" seen=" "
while IFS= read -r candidate; do
    case "$seen" in *" $candidate "*) continue ;; esac
    seen="$seen$candidate "
    if answer=$("$candidate" -c "$probe" 2>&1); then
        version=${answer%% *}
        if [ -z "$best" ] || { [ "$best_version" != 3.12 ] && [ "$version" = 3.12 ]; }; then
            best=${answer#* } best_version=$version
        fi
        [ "$best_version" = 3.12 ] && break
    else
        refused="$refused  $candidate: $(tail -n 1 <<<"$answer")"$'\n'
    fi
done < <(candidates)

if [ -z "$best" ]; then
    {
        echo "make setup: no usable Python >= 3.12 was found. Looked at:"
        printf '%s' "${refused:-  nothing called python on PATH, under pyenv or uv
}"
        echo "Install one (Debian 13, Ubuntu 24.04: apt install python3.12 python3.12-venv python3.12-dev, or the"
        echo "release's own python3; elsewhere: pyenv install 3.12), or name one: make setup PYTHON=/path/to/python"
    } >&2
    exit 1
fi

exec "$best" tools/setup.py
