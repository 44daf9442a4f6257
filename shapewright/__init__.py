"""Shape optimization with a neural-operator surrogate and a finite-element certificate: the public names."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shapewright.app.library import run as run
    from shapewright.geometries.family import built_in as families  # noqa: F401
    from shapewright.geometries.family.family import Family as Family
    from shapewright.geometries.family.parts import FamilyError as FamilyError
    from shapewright.geometries.family.parts import Parameter as Parameter
    from shapewright.geometries.family.parts import Rays as Rays
    from shapewright.geometries.family.spline import Curve as Curve
    from shapewright.geometries.fields.problem import Coefficient as Coefficient
    from shapewright.geometries.fields.problem import Derived as Derived
    from shapewright.geometries.fields.problem import Field as Field
    from shapewright.geometries.fields.problem import Functional as Functional
    from shapewright.geometries.fields.problem import Physics as Physics
    from shapewright.solvers.physics import built_in as physics  # noqa: F401
    from shapewright.studies.certify.front_model import FrontResult as FrontResult
    from shapewright.studies.certify.front_model import read_front as read_front
    from shapewright.studies.certify.model import Certificate as Certificate
    from shapewright.studies.certify.model import read_certificate as read_certificate
    from shapewright.studies.library import SLSQP as SLSQP
    from shapewright.studies.library import TrustConstr as TrustConstr
    from shapewright.studies.library import TrustRegion as TrustRegion
    from shapewright.studies.library import certify as certify
    from shapewright.studies.library import fem as fem
    from shapewright.studies.library import operator as operator
    from shapewright.studies.library import optimize as optimize
    from shapewright.studies.library import surrogate as surrogate
    from shapewright.studies.run.kinds import load as load
    from shapewright.studies.schema.python import Design as Design
    from shapewright.studies.schema.python import Problem as Problem
    from shapewright.studies.schema.python import at_least as at_least
    from shapewright.studies.schema.python import at_most as at_most
    from shapewright.studies.schema.python import equals as equals
    from shapewright.studies.schema.solid_study import solid_study as solid_study
    from shapewright.studies.schema.value import Study as Study
    from shapewright.studies.schema.yaml_source import StudyError as StudyError

_CHECKOUT = Path(__file__).resolve().parent.parent
if (_CHECKOUT / "geometries" / "__init__.py").is_file():  # the rooms lie beside this folder, not in it
    __path__.append(str(_CHECKOUT))

_FIELDS, _LIBRARY, _PYTHON = "geometries.fields.problem", "studies.library", "studies.schema.python"
_HOME = {
    "Certificate": "studies.certify.model:Certificate",
    "Coefficient": f"{_FIELDS}:Coefficient",
    "Curve": "geometries.family.spline:Curve",
    "Derived": f"{_FIELDS}:Derived",
    "Design": f"{_PYTHON}:Design",
    "Family": "geometries.family.family:Family",
    "FamilyError": "geometries.family.parts:FamilyError",
    "Field": f"{_FIELDS}:Field",
    "FrontResult": "studies.certify.front_model:FrontResult",
    "Functional": f"{_FIELDS}:Functional",
    "Parameter": "geometries.family.parts:Parameter",
    "Physics": f"{_FIELDS}:Physics",
    "Problem": f"{_PYTHON}:Problem",
    "Rays": "geometries.family.parts:Rays",
    "SLSQP": f"{_LIBRARY}:SLSQP",
    "Study": "studies.schema.value:Study",
    "StudyError": "studies.schema.yaml_source:StudyError",
    "TrustConstr": f"{_LIBRARY}:TrustConstr",
    "TrustRegion": f"{_LIBRARY}:TrustRegion",
    "at_least": f"{_PYTHON}:at_least",
    "at_most": f"{_PYTHON}:at_most",
    "certify": f"{_LIBRARY}:certify",
    "equals": f"{_PYTHON}:equals",
    "families": "geometries.family.built_in",
    "fem": f"{_LIBRARY}:fem",
    "load": "studies.run.kinds:load",
    "operator": f"{_LIBRARY}:operator",
    "optimize": f"{_LIBRARY}:optimize",
    "physics": "solvers.physics.built_in",
    "read_certificate": "studies.certify.model:read_certificate",
    "read_front": "studies.certify.front_model:read_front",
    "run": "app.library:run",
    "solid_study": "studies.schema.solid_study:solid_study",
    "surrogate": f"{_LIBRARY}:surrogate",
}
"""Public name -> where it is, ``module:name`` or a module; each is imported at its first use, so that importing the
package costs nothing."""

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'shapewright' has no attribute '{name}'; it has {', '.join(_HOME)}")
    module, _, attribute = _HOME[name].partition(":")
    found = importlib.import_module(f"shapewright.{module}")
    return getattr(found, attribute) if attribute else found


def __dir__() -> list[str]:
    return [*_HOME]


class _SurrogateRoom(ModuleType):
    """The sub-package of this name, which is the function :func:`studies.library.surrogate`, too.

    Python binds a sub-package to its name here as soon as anything in it is imported.
    """

    def __call__(self, *args: Any, **options: Any) -> Any:
        return importlib.import_module(f"shapewright.{_LIBRARY}").surrogate(*args, **options)


importlib.import_module("shapewright.surrogate").__class__ = _SurrogateRoom  # an empty file, which imports nothing
