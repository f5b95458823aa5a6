"""A head in three dimensions: folded cortex, white matter, ventricles, deep nuclei, cerebellum, skull, scalp, face."""

from __future__ import annotations

import numpy as np

from lib.data.simulate.shapes import Canvas, Points, blend, ellipsoid, folds, tube

FIELD = 216.0  # millimeters along each side of the volume
CENTER = (0.0, 2.0, -14.0)  # millimeters, of the volume; the origin lies between the thalami


def paint(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint the head of one subject; positions are those of an average head and are warped by the caller."""
    cavity = _cavity(canvas.at)
    outside, folded, leaves, deep = rng.spawn(4)
    canvas.put(_outside(canvas, cavity, outside))
    inner = canvas.part(cavity < canvas.voxel)
    cavity = cavity[cavity < canvas.voxel]
    inner.paint("fluid", cavity)
    _cerebrum(inner, cavity, folded)
    _cerebellum(inner, cavity, leaves)
    _deep(inner, deep)
    canvas.put(inner)


def _paired(at: Points) -> Points:
    """Positions with both sides laid on one: structures that come in pairs are drawn once."""
    return np.stack([np.abs(at[0]), at[1], at[2]])


def _tentorium(pair: Points) -> np.ndarray:
    """Height above the tentorium, the roof of the cerebellum."""
    x, y, z = pair
    return z - (-1 - 0.30 * x - 0.20 * np.maximum(0, -(y + 32)))


def _cavity(at: Points) -> np.ndarray:
    """Distance to the inner table of the skull."""
    main = ellipsoid(at, (0, -3, 6), (69, 87, 65))
    floor = -16 - at[2] + 0.12 * (at[1] - 20)
    main = -blend(-main, -floor, 8)
    temporal = ellipsoid(_paired(at), (42, 6, -20), (25, 45, 25), pitch=-8)
    fossa = ellipsoid(at, (0, -46, -32), (56, 41, 34))
    canal = tube(at, [(0, -34, -50, 14), (0, -42, -140, 8.5)])
    return blend(blend(blend(main, temporal, 10), fossa, 8), canal, 6)


def _outside(canvas: Canvas, cavity: np.ndarray, rng: np.random.Generator) -> Canvas:
    """Scalp, muscle, skull, face and neck, on the part of the canvas that the head fills."""
    at, pair = canvas.at, _paired(canvas.at)
    skull = blend(cavity, ellipsoid(at, (0, -2, 24), (68, 87, 46)), 10)
    face = ellipsoid(at, (0, 42, -66), (56, 44, 78))
    jaw = ellipsoid(at, (0, 46, -94), (46, 46, 40))
    nose = tube(at, [(0, 86, -22, 8), (0, 103, -50, 11), (0, 92, -58, 16)])
    neck = ellipsoid(at, (0, -32, -110), (56, 50, 95))
    thick = rng.uniform(3.5, 6.5)
    skin = blend(blend(blend(skull - 7 - thick, face - 4, 20), neck, 25), blend(jaw, nose, 8), 10)
    skin = blend(skin, ellipsoid(pair, (80, -18, -32), (4, 11, 20)), 4)
    head = skin < canvas.voxel
    canvas, skin, skull, cavity = canvas.part(head), skin[head], skull[head], cavity[head]
    at, pair = canvas.at, pair[:, head]
    x, y, z = pair
    canvas.paint("skin", skin)
    canvas.paint("fat", skin + 2.2)
    turn, tilt = rng.uniform(0, 6, 2)
    strands = np.sin(x / 4.1 + 2.0 * np.sin(z / 19 + y / 13 + turn) + y / 9)
    strands += 0.8 * np.sin(y / 5 + z / 23 + x / 9 + tilt)
    deep = skin + 2 + thick + 2.5 * np.sin(y / 13 + turn) * np.cos(z / 11)
    muscle = np.maximum(deep, z + 12 - 0.25 * y)
    canvas.paint("muscle", muscle)
    canvas.paint("fat", 3 * strands + 3.0, within=canvas.coverage(muscle))
    # Two dark tables with marrow between; toward the base of the skull they give way to muscle.
    fade = np.clip(1 + (z + 30) / 24, 0, 1)
    canvas.paint("bone", np.minimum(skull - 6.5, cavity - 4), within=np.clip(fade * 2, 0, 1))
    diploe = np.abs(skull - 3.4) - 1.5 + 1.0 * np.sin(x / 15 + y / 21 + turn) * np.cos(z / 13)
    canvas.paint("marrow", diploe, within=fade)
    canvas.paint("bone", cavity - 1.5)
    canvas.paint("bone", ellipsoid(at, (0, 57, -80), (32, 29, 8)))
    canvas.paint("marrow", ellipsoid(at, (0, 57, -80), (28, 25, 5)))
    nasal = ellipsoid(at, (0, 64, -48), (11, 27, 17))
    canvas.paint("air", nasal)
    for side in (0, 6):  # septum and turbinates
        canvas.paint("muscle", np.abs(x - side + 1.5 * np.sin(z / 5)) - 1.4, within=canvas.coverage(nasal))
    sinuses = (
        ellipsoid(at, (0, 28, -34), (12, 13, 8)),
        ellipsoid(pair, (27, 58, -56), (11, 14, 14)),
        ellipsoid(pair, (10, 83, -4), (9, 4.5, rng.uniform(5, 12))),
        ellipsoid(pair, (52, -30, -42), (7, 11, 8)),
        tube(at, [(0, 32, -62, 6), (0, 14, -84, 7), (0, 10, -140, 8)]),
    )
    for sinus in sinuses:
        canvas.paint("air", sinus)
    canvas.paint("marrow", ellipsoid(at, (0, 9, -40), (9, 7, 15), pitch=-20))
    _orbits(canvas, pair)
    return canvas


def _orbits(canvas: Canvas, pair: Points) -> None:
    """Eyes with their muscles and nerves, in fat."""
    orbit = blend(ellipsoid(pair, (31, 68, -24), (18, 19, 16)), tube(pair, [(31, 66, -24, 15), (14, 30, -18, 3)]), 5)
    canvas.paint("bone", orbit - 1.5)
    canvas.paint("fat", orbit)
    for start, radius in (((31, 58, -24), 2.2), ((43, 70, -24), 1.6), ((19, 70, -24), 1.6), ((31, 66, -12), 1.6)):
        canvas.paint("muscle", tube(pair, [(*start, radius), (14, 31, -18, 2)]))
    canvas.paint("skin", ellipsoid(pair, (31, 73, -24), (12.9, 12.9, 12.9)))
    canvas.paint("fluid", ellipsoid(pair, (31, 73, -24), (11.6, 11.6, 11.6)))
    canvas.paint("muscle", ellipsoid(pair, (31, 82, -24), (5, 2.2, 5)))


def _cerebrum(canvas: Canvas, cavity: np.ndarray, rng: np.random.Generator) -> None:
    """Both hemispheres: a ribbon of cortex along the surface and along the sheets of the sulci."""
    pair = _paired(canvas.at)
    x, y, z = pair
    below = np.maximum(_tentorium(pair), y + 16 + 0.35 * x)  # negative in the space of the cerebellum
    body = np.maximum(cavity + rng.uniform(0.8, 2.2), 0.4 - below)
    body = np.maximum(body, -ellipsoid(pair, (0, 0, -28), (17, 28, 15)))  # the cisterns at the base
    # The hemispheres part at the midline, but for the core beneath the arch of the corpus callosum.
    arch = np.hypot((y + 4) / 40, (z + 1) / 28) - 1
    body = np.maximum(body, np.where(arch > 0, np.minimum(arch * 30, 0.9) - x, -40))
    # The lateral fissure, from the temple inward to the insula.
    level = -7 + 0.42 * (8 - y) + 2.5 * np.sin(y / 8 + rng.uniform(0, 6))
    aside = np.maximum(0, 37 + 0.1 * np.abs(y) - x) ** 2 + np.maximum(0, np.abs(y - 6) - 30) ** 2
    lip = np.sqrt((0.92 * (z - level)) ** 2 + aside)
    body = np.maximum(body, rng.uniform(0.5, 1.2) - lip)
    inside = body < canvas.voxel
    part, depth = canvas.part(inside), -body[inside]
    ribbon = np.minimum(depth, _sulci(part.at, depth, rng) - rng.uniform(0.15, 0.6))
    part.paint("gray", -ribbon)
    part.paint("white", rng.uniform(2.7, 3.4) + 0.6 * np.sin(part.at[1] / 10) - ribbon)
    canvas.put(part)


def _sulci(at: Points, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Distance to the sheets of the sulci, which go down from the surface and end at a varying depth."""
    pair = _paired(at)
    pair[0] += 2.0 * np.sign(at[0]) * np.sin(at[1] / 23 + rng.uniform(0, 6))  # the sides are alike, not equal
    center = np.stack([np.full_like(depth, 18), 0.65 * at[1], np.full_like(depth, 3)])
    away = pair - center
    length = np.sqrt((away * away).sum(axis=0))
    surface = center + away * ((length + np.maximum(depth, 0)) / np.maximum(length, 1))  # the place on the surface
    bend, shift = rng.uniform(0.15, 0.35, 3), rng.uniform(0, 6, 3)
    for axis in range(3):  # sheets lean and wind on their way down
        turn = np.sin(at[(axis + 1) % 3] / 9 + at[(axis + 2) % 3] / 14 + shift[axis])
        surface[axis] += (bend[axis] * np.maximum(depth, 0) + 1.5) * turn
    value, slope = folds(surface, rng, wavelength=rng.uniform(23, 27), waves=36)
    sheet = np.abs(value) / np.maximum(slope, 0.6 * float(slope.mean()))
    bottom = 14 + 5 * np.sin(at[1] / 11 + at[2] / 17 + shift[0]) + rng.normal(0, 1)
    return np.sqrt(sheet**2 + np.maximum(0, depth - bottom) ** 2)


def _cerebellum(canvas: Canvas, cavity: np.ndarray, rng: np.random.Generator) -> None:
    """Leaves of cortex around a branching core, and the brain stem in front of it."""
    pair = _paired(canvas.at)
    half = blend(ellipsoid(pair, (27, -54, -34), (32, 33, 29)), ellipsoid(pair, (0, -56, -32), (18, 29, 27)), 8)
    body = np.maximum(np.maximum(half, cavity + rng.uniform(1, 2.5)), _tentorium(pair) + 0.7)
    body = np.maximum(body, 2.5 - np.hypot(pair[0], np.maximum(0, pair[1] + 72)))  # the notch behind
    inside = body < canvas.voxel
    part, depth = canvas.part(inside), -body[inside]
    x, y, z = _paired(part.at)
    turn = np.arctan2(z + 33, -(y + 36)) + 0.10 * np.sin(x / 8 + rng.uniform(0, 6))
    reach = np.hypot(z + 33, y + 36)
    coarse, fine = np.cos(turn * 11 + rng.uniform(0, 6)), np.cos(turn * 28 + reach / 15 + np.sin(x / 6))
    groove = np.minimum(depth, 1.5 + 1.4 * fine + np.maximum(0, depth - 5))
    part.paint("gray", -groove)
    part.paint("white", 8 - depth - 5.5 * coarse + 1.5 * np.minimum(fine, 0))
    canvas.put(part)
    stem = blend(tube(pair, [(0, -20, -4, 13), (0, -23, -16, 14)]), ellipsoid(pair, (0, -19, -33), (17, 15, 15)), 6)
    stem = blend(stem, tube(pair, [(0, -30, -44, 10), (0, -37, -62, 7.5), (0, -42, -140, 6)]), 5)
    canvas.paint("stem", stem)
    canvas.paint("white", tube(pair, [(12, -24, -34, 7), (22, -42, -38, 6)]))
    canvas.paint("fluid", ellipsoid(pair, (0, -38, -31), (7, 4, 9), pitch=15))
    canvas.paint("fluid", tube(pair, [(0, -33, -22, 1.2), (0, -28, -6, 1.2)]))


def _deep(canvas: Canvas, rng: np.random.Generator) -> None:
    """Corpus callosum, ventricles and the gray nuclei."""
    pair = _paired(canvas.at)
    x, y, z = pair
    core = np.maximum(ellipsoid(pair, (0, -2, 3), (31, 40, 24)), 4 - z - 0.25 * np.abs(y))
    canvas.paint("white", core)
    callosum = np.abs(np.hypot((y + 4) / 37, (z + 1) / 25) - 0.93) * 28 - rng.uniform(2.2, 3.2)
    canvas.paint("white", np.maximum(np.maximum(callosum, x - 24), -z - 2 - 0.1 * y))
    swell = float(np.exp(rng.normal(0, 0.25)))
    horn = [(6, 34, 3, 2.5), (9, 20, 10, 4.5), (8, 4, 16, 4.5), (11, -16, 18, 4.5), (21, -34, 12, 6), (25, -58, 4, 2.5)]
    temporal = [(21, -34, 12, 5.5), (31, -28, -8, 2.5), (34, -6, -20, 2)]
    grown = [[(*knot[:3], knot[3] * swell) for knot in chain] for chain in (horn, temporal)]
    wing = tube(pair, [(right + 4.5, front, up + 1.5, 0.5 * radius) for right, front, up, radius in grown[0][1:5]])
    lateral = np.minimum(blend(tube(pair, grown[0]), wing, 4), tube(pair, grown[1]))
    canvas.paint("fluid", np.maximum(lateral, 1.0 - x))
    canvas.paint("fluid", ellipsoid(pair, (0, -4, -3), (1.8 * swell, 14, 12)))
    canvas.paint("nuclei", np.maximum(ellipsoid(pair, (11.5, -14, 3), (9.5, 15, 10)), 2.0 * swell - x))
    caudate = tube(pair, [(13, 22, 2, 6), (14.5, 12, 10, 5), (17, -8, 18, 3), (25, -26, 16, 2)])
    canvas.paint("nuclei", np.maximum(caudate, 0.5 - lateral))
    canvas.paint("nuclei", ellipsoid(pair, (26, 4, 0), (5.5, 17, 12)))
    canvas.paint("pallidum", ellipsoid(pair, (20.5, 1, -2), (4, 10, 7)))
    canvas.paint("gray", tube(pair, [(28, -8, -22, 4), (23, -24, -12, 3.5)]))
