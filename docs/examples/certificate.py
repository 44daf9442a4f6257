"""A run from start to certificate, and what the certificate says."""

from pathlib import Path
from tempfile import TemporaryDirectory

import shapewright as sw

study = sw.Study(
    sw.Design(sw.families.closed_bar(control_points=6, start="ellipse"), mesh_size=0.3),
    sw.Problem(sw.physics.poisson(dimension=2), source=2.0, dirichlet={"wall": 0.0}),
    maximize="torsional_constant",
    constraints=[sw.equals("area", 3.0)],
    optimizer={"on": "fem", "starts": 1},
    validation={"discretization_error": 1e-3},
)
with TemporaryDirectory() as folder:
    sw.run(study, folder)  # writes CAD, fields, certificate.json and report.html
    certificate = sw.read_certificate(Path(folder) / "certificate.json")
    files = sorted(path.name for path in Path(folder).iterdir())

print(certificate)
for check in certificate.design.checks:
    print("ok    " if check.satisfied else "FAILED", check.name, check.value, check.relation, check.limit)
for name, parameter in certificate.parameters.items():
    print(f"{name} = {parameter.value:.6f}, within {parameter.tolerance:.2g} for a loss of 0.1 %")
