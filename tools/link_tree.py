"""The package as a folder of links: ``python tools/link_tree.py [FOLDER]``, build/tree by default.

In the checkout the rooms of the package lie beside the folder ``shapewright``. What reads sources without running them
(import rules, the type checker) takes FOLDER as a path to import from.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("app", "geometries", "solvers", "studies", "surrogate")


def link_tree(folder: Path = ROOT / "build" / "tree") -> Path:
    """Make the links in ``folder`` that are not there, and return it."""
    package = folder / "shapewright"
    package.mkdir(parents=True, exist_ok=True)
    for name, target in [("__init__.py", ROOT / "shapewright" / "__init__.py"), *((r, ROOT / r) for r in ROOMS)]:
        link = package / name
        if link.is_symlink() and link.readlink() != target:
            link.unlink()
        if not link.is_symlink():
            link.symlink_to(target)
    return folder


if __name__ == "__main__":
    print(link_tree(Path(sys.argv[1]).resolve()) if sys.argv[1:] else link_tree())
