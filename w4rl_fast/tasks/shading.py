"""Numba loops of the ray renderer: which samples can a part cover, and what colour does a hit have?"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

PLANE, SPHERE, CAPSULE, ELLIPSOID, CYLINDER, BOX, MESH = 0, 2, 3, 4, 5, 6, 7
AMBIENT, KEY, HEAD = 0.42, 0.42, 0.22
# From above, behind the camera's left shoulder: tops, sides and fronts of a box come out in three clear tones.
KEY_LIGHT = (-0.35, -0.45, 0.82)
NEAR = 1e-3


@njit(cache=True)
def mark_boxes(mask, geoms, aabb, xpos, xmat, eye, axes, extent):  # type: ignore[no-untyped-def]
    """Set mask (n, n) where the projected bounding box of any of `geoms` may lie; extent is tan(fovy / 2)."""
    n = mask.shape[0]
    low = np.empty(n)
    high = np.empty(n)
    x = np.empty(8)
    y = np.empty(8)
    for g in geoms:
        behind = False
        for corner in range(8):
            depth = 0.0
            px = 0.0
            py = 0.0
            for k in range(3):
                point = xpos[g, k] - eye[k]
                for a in range(3):
                    sign = 1.0 if (corner >> a) & 1 else -1.0
                    point += xmat[g, 3 * k + a] * (aabb[g, a] + sign * aabb[g, 3 + a])
                px += axes[0, k] * point
                py += axes[1, k] * point
                depth += axes[2, k] * point
            if depth < NEAR:
                behind = True
                break
            x[corner] = (0.5 + 0.5 * px / (depth * extent)) * n - 0.5
            y[corner] = (0.5 - 0.5 * py / (depth * extent)) * n - 0.5
        if behind:
            mask[:] = True
            return
        low[:] = n
        high[:] = -1.0
        top = max(0, int(math.floor(y.min())))
        bottom = min(n - 1, int(math.ceil(y.max())))
        for i in range(8):
            for j in range(i):
                widen_rows(low, high, x[i], y[i], x[j], y[j], top, bottom)
        for row in range(top, bottom + 1):
            for column in range(max(0, int(math.floor(low[row]))), min(n - 1, int(math.ceil(high[row]))) + 1):
                mask[row, column] = True


@njit(cache=True)
def widen_rows(low, high, x0, y0, x1, y1, top, bottom):  # type: ignore[no-untyped-def]
    """Widen the span of every row within one sample of the segment from (x0, y0) to (x1, y1)."""
    first = max(top, int(math.floor(min(y0, y1))))
    last = min(bottom, int(math.ceil(max(y0, y1))))
    for row in range(first, last + 1):
        for edge in (row - 1.0, row + 1.0):
            t = 0.0 if y1 == y0 else (edge - y0) / (y1 - y0)
            t = min(1.0, max(0.0, t))
            at = x0 + t * (x1 - x0)
            low[row] = min(low[row], at)
            high[row] = max(high[row], at)
        if y1 == y0:
            low[row] = min(low[row], x0, x1)
            high[row] = max(high[row], x0, x1)


@njit(cache=True)
def merge_hits(samples, geomid, distance, geom, depth):  # type: ignore[no-untyped-def]
    """Put hits nearer than what is there into the sample grids geom (n * n) and depth (n * n)."""
    for k in range(len(samples)):
        if geomid[k] >= 0 and distance[k] < depth[samples[k]]:
            geom[samples[k]] = geomid[k]
            depth[samples[k]] = distance[k]


@njit(cache=True)
def primitive_normal(kind, size, xpos, xmat, point, out):  # type: ignore[no-untyped-def]
    """Write the outward normal of a primitive geom at a surface point, world frame."""
    p = np.zeros(3)
    for a in range(3):
        for k in range(3):
            p[a] += xmat[3 * k + a] * (point[k] - xpos[k])
    local = np.zeros(3)
    if kind == PLANE:
        local[2] = 1.0
    elif kind == SPHERE:
        local[:] = p
    elif kind == ELLIPSOID:
        local[:] = p / (size * size)
    elif kind == CAPSULE:
        local[:] = p
        local[2] = p[2] - min(size[1], max(-size[1], p[2]))
    elif kind == CYLINDER:
        if abs(p[2]) > size[1] * (1.0 - 1e-6):
            local[2] = p[2]
        else:
            local[0], local[1] = p[0], p[1]
    else:
        best = 0
        for a in range(1, 3):
            if abs(p[a]) * size[best] > abs(p[best]) * size[a]:
                best = a
        local[best] = p[best]
    length = math.sqrt((local * local).sum()) + 1e-12
    for k in range(3):
        out[k] = (xmat[3 * k] * local[0] + xmat[3 * k + 1] * local[1] + xmat[3 * k + 2] * local[2]) / length


@njit(cache=True)
def shade(samples, eye, rays, geom, depth, normals, kinds, sizes, xpos, xmat, tones, background, colour):  # type: ignore[no-untyped-def]
    """Write the colour (n * n, 3) of the given samples: Lambert from a key light and from the camera.

    normals (n * n, 3) holds those of mesh hits; primitives know their own.
    """
    normal = np.zeros(3)
    point = np.zeros(3)
    norm = math.sqrt(KEY_LIGHT[0] ** 2 + KEY_LIGHT[1] ** 2 + KEY_LIGHT[2] ** 2)
    for at in samples:
        g = geom[at]
        if g < 0:
            colour[at] = background
            continue
        if kinds[g] == MESH:
            normal[:] = normals[at]
        else:
            for k in range(3):
                point[k] = eye[k] + depth[at] * rays[at, k]
            primitive_normal(kinds[g], sizes[g], xpos[g], xmat[g], point, normal)
        key = 0.0
        head = 0.0
        for k in range(3):
            key += normal[k] * KEY_LIGHT[k] / norm
            head -= normal[k] * rays[at, k]
        light = AMBIENT + KEY * max(0.0, key) + HEAD * max(0.0, head)
        for k in range(3):
            colour[at, k] = tones[g, k] * light


@njit(cache=True)
def draw_markers(centres, radii, tones, eye, rays, axes, extent, depth, n, colour):  # type: ignore[no-untyped-def]
    """Draw spheres (M,) into colour and depth (n * n) wherever they are nearest."""
    for m in range(len(radii)):
        offset = centres[m] - eye
        away = (axes[2] * offset).sum()
        if away < NEAR + radii[m]:
            continue
        x = (0.5 + 0.5 * (axes[0] * offset).sum() / (away * extent)) * n
        y = (0.5 - 0.5 * (axes[1] * offset).sum() / (away * extent)) * n
        reach = radii[m] / ((away - radii[m]) * extent) * n
        for row in range(max(0, int(y - reach)), min(n - 1, int(y + reach) + 1) + 1):
            for column in range(max(0, int(x - reach)), min(n - 1, int(x + reach) + 1) + 1):
                at = row * n + column
                along = (rays[at] * offset).sum()
                inside = along * along - (offset * offset).sum() + radii[m] ** 2
                if inside <= 0.0 or along - math.sqrt(inside) >= depth[at]:
                    continue
                depth[at] = along - math.sqrt(inside)
                light = 0.6 + 0.4 * math.sqrt(inside) / radii[m]
                for k in range(3):
                    colour[at, k] = tones[m, k] * light


@njit(cache=True)
def average(colour, n, factor, frame):  # type: ignore[no-untyped-def]
    """Average factor x factor samples of colour (n * n, 3) in [0, 1] into frame (n / factor, n / factor, 3) uint8."""
    size = n // factor
    scale = 255.0 / (factor * factor)
    for row in range(size):
        for column in range(size):
            for k in range(3):
                total = 0.0
                for i in range(factor):
                    for j in range(factor):
                        total += min(1.0, colour[(row * factor + i) * n + column * factor + j, k])
                frame[row, column, k] = np.uint8(total * scale + 0.5)


def geom_tones(model) -> NDArray[np.float32]:  # type: ignore[no-untyped-def]
    """Base colour (ngeom, 3) of every geom: its own, or its material's times the mean of its texture."""
    tones = np.array(model.geom_rgba[:, :3], dtype=np.float32)
    for geom, material in enumerate(model.geom_matid):
        if material < 0:
            continue
        tones[geom] = model.mat_rgba[material, :3]
        textures = np.atleast_1d(model.mat_texid[material])
        for texture in textures[textures >= 0][:1]:
            tones[geom] *= texture_mean(model, int(texture))
    return tones


def texture_mean(model, texture: int) -> NDArray[np.float32]:  # type: ignore[no-untyped-def]
    """Mean colour (3,) of a texture, 0 to 1."""
    channels = int(model.tex_nchannel[texture])
    start = int(model.tex_adr[texture])
    count = int(model.tex_height[texture]) * int(model.tex_width[texture]) * channels
    texels = np.asarray(model.tex_data[start : start + count]).reshape(-1, channels)
    return np.asarray(texels[:, :3].mean(axis=0) / 255.0, dtype=np.float32)
