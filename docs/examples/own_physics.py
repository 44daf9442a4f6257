"""A physics of one's own: conduction with absorption, div(grad u) - absorption u + source = 0, on a known solution.

exp(x) solves it for an absorption of one and no source.
"""

from math import exp

import shapewright as sw


def flux(ops, q):  # noqa: ANN001, ANN201
    """Component -> vector."""
    return {"u": (q["u_x"], q["u_y"])}


def source(ops, q):  # noqa: ANN001, ANN201
    """Component -> scalar."""
    return {"u": -q["absorption"] * q["u"]}


absorbing = sw.Physics(
    name="absorbing",
    description="div(grad u) - absorption u + source = 0",
    fields=(sw.Field("u", ("u",), 2, "1", "concentration"),),
    coefficients=(sw.Coefficient("absorption", 1.0, "1/length^2", "rate of absorption"),),
    flux=flux,
    source=source,
    functionals=(sw.Functional("content", lambda ops, q: q["u"], "length^2", "int u"),),
)
study = sw.Study(
    sw.Design(sw.families.closed_bar(start="ellipse"), mesh_size=0.1),
    sw.Problem(absorbing, dirichlet={"wall": lambda ops, q: ops.exp(q["x"])}),
    minimize="content",
)
model = sw.fem(study)
solution = model.solve(model.setup.initial)
error = max(abs(u - exp(x)) for u, x in zip(solution.fields["u"].ravel(), solution.nodes[:, 0], strict=True))
print("largest error at a node", error, "content", solution.values["content"])
