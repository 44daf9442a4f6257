"""A bar whose wall comes out a little inside or outside of where it is meant to be: the mean over the offsets."""

import numpy as np

import shapewright as sw

design = sw.Design(sw.families.closed_bar(control_points=8, start="disc"), mesh_size=0.25)
problem = sw.Problem(sw.physics.poisson(dimension=2), source=2.0, dirichlet={"wall": 0.0})
study = sw.Study(
    design,
    problem,
    maximize={"mean": "torsional_constant"},
    scatter={"offset": {"normal": [0.0, 0.05]}},  # mean and standard deviation, length unit
    constraints=[sw.equals("area", 3.0)],
    optimizer={"on": "fem", "starts": 1},
)
model = sw.fem(study)
solution = model.solve(model.setup.initial)  # of all three scenarios
for scenario, values in model.setup.problem.cases.items():
    print(scenario, values, solution.values[f"torsional_constant ({scenario})"])
mean = solution.values["mean torsional_constant"]

outline = model.setup.family.outline(model.setup.family.control_points(model.setup.initial).numpy(), 0)
radius = float(np.hypot(*outline.T).mean())
exact = np.pi / 2 * (radius**4 + 6 * radius**2 * 0.05**2 + 3 * 0.05**4)  # of a disc with a normal offset
print("mean", mean, "exact for a disc", exact)
