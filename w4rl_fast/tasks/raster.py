"""Triangle meshes into the sample grid: the hits of MuJoCo's mesh rays at a twentieth of their time."""

import math

from numba import njit

from w4rl_fast.tasks.shading import NEAR


@njit(cache=True)
def project_vertices(vertices, position, rotation, eye, axes, extent, n, x, y, inverse):  # type: ignore[no-untyped-def]
    """Write sample coordinates x, y (V,) and inverse depths (V,) of vertices (V, 3); an inverse of 0 is behind us."""
    turn = axes @ rotation.reshape(3, 3)
    shift = axes @ (position - eye)
    for v in range(len(vertices)):
        away = turn[2, 0] * vertices[v, 0] + turn[2, 1] * vertices[v, 1] + turn[2, 2] * vertices[v, 2] + shift[2]
        if away < NEAR:
            inverse[v] = 0.0
            continue
        right = turn[0, 0] * vertices[v, 0] + turn[0, 1] * vertices[v, 1] + turn[0, 2] * vertices[v, 2] + shift[0]
        up = turn[1, 0] * vertices[v, 0] + turn[1, 1] * vertices[v, 1] + turn[1, 2] * vertices[v, 2] + shift[1]
        inverse[v] = 1.0 / away
        x[v] = (0.5 + 0.5 * right / (away * extent)) * n - 0.5
        y[v] = (0.5 - 0.5 * up / (away * extent)) * n - 0.5


@njit(cache=True)
def face_normal(vertices, face, rotation, out):  # type: ignore[no-untyped-def]
    """Write the unit normal of a face, world frame."""
    a, b, c = vertices[face[0]], vertices[face[1]], vertices[face[2]]
    u0, u1, u2 = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    v0, v1, v2 = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    m0, m1, m2 = u1 * v2 - u2 * v1, u2 * v0 - u0 * v2, u0 * v1 - u1 * v0
    length = math.sqrt(m0 * m0 + m1 * m1 + m2 * m2) + 1e-30
    for k in range(3):
        out[k] = (rotation[3 * k] * m0 + rotation[3 * k + 1] * m1 + rotation[3 * k + 2] * m2) / length


@njit(cache=True)
def draw_mesh(  # type: ignore[no-untyped-def]
    vertices, faces, number, position, rotation, eye, axes, extent, n, cosine, x, y, inverse, touched, geom, depth,
    normals,
):  # fmt: skip
    """Draw one mesh geom: vertices (V, 3) and faces (F, 3) into geom, depth (n * n) and normals (n * n, 3).

    cosine (n * n) is each ray's share along the view axis, which turns depth along that axis into distance; touched
    (n * n) is set where the mesh was nearest so far.
    """
    project_vertices(vertices, position, rotation, eye, axes, extent, n, x, y, inverse)
    for face in faces:
        i, j, k = face[0], face[1], face[2]
        if inverse[i] == 0.0 or inverse[j] == 0.0 or inverse[k] == 0.0:
            continue
        left = max(0, int(math.ceil(min(x[i], x[j], x[k]))))
        right = min(n - 1, int(math.floor(max(x[i], x[j], x[k]))))
        top = max(0, int(math.ceil(min(y[i], y[j], y[k]))))
        bottom = min(n - 1, int(math.floor(max(y[i], y[j], y[k]))))
        if left > right or top > bottom:
            continue
        area = (x[j] - x[i]) * (y[k] - y[i]) - (x[k] - x[i]) * (y[j] - y[i])
        if area == 0.0:
            continue
        for row in range(top, bottom + 1):
            for column in range(left, right + 1):
                at_i = ((x[j] - column) * (y[k] - row) - (x[k] - column) * (y[j] - row)) / area
                at_j = ((x[k] - column) * (y[i] - row) - (x[i] - column) * (y[k] - row)) / area
                at_k = 1.0 - at_i - at_j
                if at_i < 0.0 or at_j < 0.0 or at_k < 0.0:
                    continue
                at = row * n + column
                away = 1.0 / (at_i * inverse[i] + at_j * inverse[j] + at_k * inverse[k])
                if away < depth[at] * cosine[at]:
                    depth[at] = away / cosine[at]
                    geom[at] = number
                    touched[at] = True
                    face_normal(vertices, face, rotation, normals[at])
