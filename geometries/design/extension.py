"""Extension of boundary motion into the reference mesh, harmonic or along rays; solved once per family."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import splu
from scipy.spatial import KDTree

from shapewright.geometries.design.shape_map import ShapeMap
from shapewright.geometries.family.family import Family
from shapewright.geometries.family.spline import Curve
from shapewright.geometries.mesh.mesh import Mesh, MeshError
from shapewright.geometries.mesh.stiffness import weighted_stiffness


def build_shape_map(family: Family, mesh_size: float, mesh: Mesh | None = None) -> ShapeMap:
    """Mesh the design in the middle of the bounds (or take its ``mesh``) and extend the motion of its boundary into it.

    Raises:
        MeshError: that design is no valid shape, or gmsh could not mesh it.
    """
    from shapewright.geometries.cad.mesher import mesh_family  # gmsh and shapely, which the extensions below do without
    from shapewright.geometries.family.outlines import ShapeError, check_outlines

    control_points = family.control_points(family.reference).numpy()
    try:
        check_outlines(family, control_points)
    except ShapeError as error:
        raise MeshError(f"the design in the middle of the bounds: {error}") from error
    if mesh is None:
        mesh = mesh_family(family, control_points, mesh_size)
    else:
        check_regions(family, control_points, mesh)
    if family.rays:
        return ShapeMap(family, mesh, torch.from_numpy(ray_extension(family, control_points, mesh)))
    return ShapeMap(family, mesh, torch.from_numpy(harmonic_extension(family, control_points, mesh, mesh_size)))


def harmonic_extension(
    family: Family, control_points: NDArray[np.float64], mesh: Mesh, mesh_size: float
) -> NDArray[np.float64]:
    """(N, n) solutions of div(w grad e_j) = 0 with e_j = basis function j on the boundary.

    The weight w = distance^-stiffening to the designed part keeps cells next to it nearly rigid.
    """
    boundary, values = boundary_basis(family, control_points, mesh)
    tree = KDTree(family.outline(control_points, family.part, 40))

    def weight(points: NDArray[np.float64]) -> NDArray[np.float64]:
        distance = tree.query(points.reshape(-1, 2))[0].reshape(points.shape[:-1])
        return (distance + 0.5 * mesh_size) ** -family.stiffening

    stiffness = weighted_stiffness(mesh, weight)
    inside = np.setdiff1d(np.arange(len(mesh.nodes)), boundary)
    extension = np.zeros((len(mesh.nodes), values.shape[1]))
    extension[boundary] = values
    extension[inside] = splu(stiffness[inside][:, inside].tocsc()).solve(-(stiffness[inside][:, boundary] @ values))
    return extension


def ray_extension(family: Family, control_points: NDArray[np.float64], mesh: Mesh) -> NDArray[np.float64]:
    """(N, n) basis functions at the outline's point on each node's ray, times share^1.5.

    ``share`` is 1 on the outline and 0 at the limit of the rays. A motion of the outline by the fraction e of its
    distance from the limit stretches the rays by 1 + 1.5 e or less, so that designs with e > -2/3 do not fold.
    """
    extension = np.zeros((len(mesh.nodes), len(control_points)))
    for rays in family.rays:
        rows, curve = family.loop_slices[rays.loop], family.loops[rays.loop][0]
        away = mesh.nodes - np.array(rays.centre)
        distance = np.linalg.norm(away, axis=-1)
        basis = _basis_on_rays(curve, control_points[rows] - np.array(rays.centre), away)
        outline = np.linalg.norm(basis @ (control_points[rows] - np.array(rays.centre)), axis=-1)
        share = (distance - rays.limit) / (outline - rays.limit)
        extension[:, rows] = basis * np.clip(share, 0, None)[:, None] ** 1.5
    return extension


def _basis_on_rays(
    curve: Curve, poles: NDArray[np.float64], away: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(N, n) basis of a closed curve around the origin where it crosses the rays through ``away`` (N, 2)."""
    direction = np.where(away.any(-1, keepdims=True), away, [1.0, 0.0])  # the centre itself lies on every ray
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    t = np.linspace(0, curve.spans, 60 * curve.spans, endpoint=False)
    outline = curve.basis(t) @ poles
    outline /= np.linalg.norm(outline, axis=-1, keepdims=True)
    parameter = t[KDTree(outline).query(direction)[1]]
    for _ in range(6):  # Newton on direction x outline(t) = 0
        x, dx = (curve.basis(parameter, k) @ poles for k in range(2))
        cross = direction[:, 0] * x[:, 1] - direction[:, 1] * x[:, 0]
        parameter = (parameter - cross / (direction[:, 0] * dx[:, 1] - direction[:, 1] * dx[:, 0])) % curve.spans
    return curve.basis(parameter)


def check_regions(family: Family, control_points: NDArray[np.float64], mesh: Mesh) -> None:
    """Refuse a mesh whose boundary regions do not lie on the curves that bear their names.

    Raises:
        MeshError: names the region, and how far a node of it is away.
    """
    extent = np.ptp(control_points, axis=0).max()
    for tag in family.tags:
        nodes, start = mesh.nodes[np.unique(mesh.facets_on(tag))], 0
        near = np.full(len(nodes), np.inf)
        for curve in family.curves:
            poles = control_points[start : start + curve.count]
            start += curve.count
            if curve.tag == tag:
                near = np.minimum(near, _on_curve(curve, poles, nodes)[1])
        if not len(nodes):
            raise MeshError(f"the mesh has no boundary region '{tag}', which '{family.name}' has")
        if near.max() > 1e-6 * extent:
            raise MeshError(
                f"a node of the boundary region '{tag}' is {near.max():.3g} away from the curves of '{family.name}'"
            )


def _on_curve(
    curve: Curve, poles: NDArray[np.float64], nodes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Parameters of the points of a curve that are nearest to nodes (k, 2), and the distances: both (k,)."""
    t = np.linspace(0, curve.spans, 60 * curve.spans + 1)
    parameter = t[KDTree(curve.basis(t) @ poles).query(nodes)[1]]
    for _ in range(8):
        x, dx, ddx = (curve.basis(parameter, k) @ poles for k in range(3))
        gap = x - nodes
        slope = (dx * dx).sum(-1) + (gap * ddx).sum(-1)
        step = (gap * dx).sum(-1) / np.where(slope > 0, slope, (dx * dx).sum(-1))
        parameter = parameter - np.clip(step, -0.05, 0.05)
        parameter = parameter % curve.spans if curve.periodic else np.clip(parameter, 0, curve.spans)
    return parameter, np.linalg.norm(curve.basis(parameter) @ poles - nodes, axis=-1)


def boundary_basis(
    family: Family, control_points: NDArray[np.float64], mesh: Mesh
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Boundary nodes (b,) and the values (b, n) of all basis functions at them.

    The curve parameter of each node is found by projection: a KD-tree start and Newton's method on
    (x(t) - node) . x'(t) = 0, to rounding.

    Raises:
        MeshError: a boundary node of the mesh lies on no curve.
    """
    boundary = np.unique(mesh.facets)
    best = np.full(len(boundary), np.inf)
    values = np.zeros((len(boundary), len(control_points)))
    start, extent = 0, np.ptp(control_points, axis=0).max()
    for curve in family.curves:
        poles = control_points[start : start + curve.count]
        parameter, distance = _on_curve(curve, poles, mesh.nodes[boundary])
        closer = distance < best - 1e-12 * extent
        best[closer] = distance[closer]
        values[closer] = 0
        values[closer, start : start + curve.count] = curve.basis(parameter[closer])
        start += curve.count
    if best.max() > 1e-6 * extent:
        raise MeshError(f"a boundary node of the mesh is {best.max():.3g} away from the curves of '{family.name}'")
    return boundary, values
