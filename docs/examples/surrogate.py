"""The shipped surrogate of torsion on designs that it has never seen, beside finite elements."""

from pathlib import Path

import numpy as np
import torch

import shapewright as sw

study = sw.load(Path(__file__).parents[2] / "studies" / "torsion.yaml")
surrogate, fem = sw.surrogate(study), sw.fem(study)
lower, upper = surrogate.setup.family.bounds.numpy().T
designs = lower + (upper - lower) * (0.3 + 0.4 * np.random.default_rng(1).random((4, len(lower))))

values, gradients = surrogate.evaluate(designs)  # (4, 1) and (4, 1, 8), exact derivatives of the network
true_values, true_gradients = fem.evaluate(designs)  # the same by finite elements and their adjoint
value_error = np.abs(values / true_values - 1).max()
gradient_error = np.linalg.norm(gradients - true_gradients) / np.linalg.norm(true_gradients)

theta = torch.from_numpy(designs[0])
u, true_u = surrogate.fields(theta).numpy(), fem.solve(theta).fields["u"].reshape(-1, 1)
field_error = np.linalg.norm(u - true_u) / np.linalg.norm(true_u)
print(f"value {value_error:.2%}, design gradient {gradient_error:.2%}, field {field_error:.2%}")
