"""Four sections of one area, from the stiffest in torsion to the stiffest in bending, each with its certificate."""

from pathlib import Path
from tempfile import TemporaryDirectory

import shapewright as sw

study = sw.Study(
    sw.Design(sw.families.closed_bar(control_points=8, start="ellipse"), mesh_size=0.3),
    sw.Problem(sw.physics.poisson(dimension=2), source=2.0, dirichlet={"wall": 0.0}),
    objectives=[
        {"maximize": "torsional_constant"},
        {"maximize": {"name": "second_moment", "integrand": "y**2", "unit": "m^4"}},
    ],
    front={"points": 4},
    constraints=[sw.equals("area", 3.0)],
    optimizer={"on": "fem", "method": "slsqp"},  # so small a solve is cheaper than a call of a reduced basis
)
with TemporaryDirectory() as folder:
    front = sw.run(study, folder)  # writes points/01 to points/04, front.json and report.html
    files = sorted(path.name for path in (Path(folder) / "points" / "02").iterdir())

print(front)
for point in front.points:
    torsion, bending = point.objectives
    print(f"{point.number}: torsion {torsion:.4f}, bending {bending:.4f}, {point.verdict}")
