"""A knee in three dimensions: bones with marrow, cartilage, menisci, ligaments, muscle, fat and skin."""

from __future__ import annotations

import numpy as np

from lib.data.simulate.shapes import Canvas, Points, blend, ellipsoid, tube

FIELD = 168.0  # millimeters along each side of the volume
CENTER = (0.0, 0.0, 8.0)  # millimeters, of the volume; the origin lies between femur and tibia, front is the patella
CONDYLE = 22.0  # millimeters from the middle to each condyle


def paint(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint the knee of one subject; positions are those of an average knee and are warped by the caller."""
    if rng.random() < 0.5:  # a left knee
        canvas.at[0] *= -1
    soft, hard = rng.spawn(2)
    limb = canvas.part(_limb(canvas.at) < canvas.voxel)
    _soft(limb, soft)
    _joint(limb, hard)
    canvas.put(limb)


def _limb(at: Points) -> np.ndarray:
    """Distance to the skin."""
    limb = tube(at, [(0, -8, 140, 68), (0, -4, 50, 57), (0, -4, 0, 52), (0, -12, -50, 50), (0, -14, -140, 54)])
    return blend(limb, ellipsoid(at, (0, 34, 28), (28, 22, 30)), 12)


def _soft(canvas: Canvas, rng: np.random.Generator) -> None:
    """Skin, fat, muscles with fat between them, vessels."""
    at = canvas.at
    x, y, z = at
    skin, thick = _limb(at), rng.uniform(4, 11)
    canvas.paint("skin", skin)
    canvas.paint("fat", skin + 2)
    bend = rng.uniform(0, 6, 3)
    wave = 3 * np.sin(z / 23 + bend[0]) + 2 * np.sin(x / 12 + y / 17 + bend[1])
    fascia = skin + thick + np.maximum(0, wave)
    rear = np.maximum(27 - 0.55 * np.abs(z - 4) + wave, y - 3 + 0.5 * wave)  # none at the height of the joint
    front = np.maximum(56 - z - 0.35 * np.abs(x) + wave, 6 - y)
    muscle = blend(rear, front, 8)
    for right, length in ((-21, 60), (21, 54)):  # calf and hamstrings, on each side of the hollow of the knee
        for up in (-66, 66):
            muscle = blend(muscle, ellipsoid(at, (right, -38, up), (19, 17, length)), 5)
    canvas.paint("muscle", np.maximum(fascia + 1.5, muscle))
    strands = np.sin(x / 5 + 2 * np.sin(z / 27 + bend[2]) + y / 15) + 0.8 * np.sin(y / 4.5 + z / 31 - x / 11 + bend[0])
    canvas.paint("fat", 3 * strands + 3.7, within=canvas.coverage(np.maximum(fascia + 1.5, muscle)))
    for right, front, radius, tissue in ((2, -38, 3.4, "bone"), (7, -43, 3.6, "bone"), (-5, -47, 2.6, "skin")):
        canvas.paint(tissue, tube(at, [(right, front - 6, 130, radius), (right, front, 10, radius),
                                       (right - 2, front + 2, -130, radius * 0.8)]))  # fmt: skip


def _bones(at: Points, rng: np.random.Generator, high: float) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Distances to femur, tibia, fibula and patella, whose middle is `high`, and to the notch of the femur."""
    grow = 1 + 0.04 * rng.standard_normal(4)
    femur = tube(at, [(0, 2, 150, 12.5), (0, 0, 52, 15), (0, 1, 34, 21)])
    for side in (-1, 1):
        round_end = ellipsoid(at, (side * CONDYLE, -6, 23), (15.5 * grow[0], 29 * grow[1], 22))
        femur = blend(femur, round_end, 9)
    femur = blend(femur, ellipsoid(at, (0, 10, 28), (29, 17, 17)), 8)
    notch = ellipsoid(at, (0, -17, 8), (8.5, 23, 17))
    groove = ellipsoid(at, (0, 34, 26), (8, 8, 22))
    femur = np.maximum(np.maximum(femur, -notch), -groove)
    plateau = ellipsoid(at, (0, -6, -19), (38 * grow[2], 27 * grow[2], 21))
    bowl = 1.5 * np.exp(-(((np.abs(at[0]) - CONDYLE) / 10) ** 2) - ((at[1] + 6) / 15) ** 2)
    plateau = np.maximum(plateau, at[2] + 6.5 + bowl - 4 * np.exp(-((at[0] / 6) ** 2) - ((at[1] + 4) / 9) ** 2))
    tibia = blend(plateau, tube(at, [(0, -4, -32, 25), (0, -3, -62, 16.5), (0, -8, -150, 13)]), 10)
    tibia = blend(tibia, ellipsoid(at, (0, 19, -40), (9, 7, 13)), 8)
    fibula = tube(at, [(32, -24, -28, 8.5), (33, -24, -44, 5.5), (32, -26, -150, 5.5)])
    patella = ellipsoid(at, (rng.normal(0, 1.5), 43, high), (21 * grow[3], 10, 20 * grow[3]))
    return {"femur": femur, "tibia": tibia, "fibula": fibula, "patella": patella}, notch


def _joint(canvas: Canvas, rng: np.random.Generator) -> None:
    """Fluid, ligaments, menisci, cartilage and bones."""
    at = canvas.at
    x, y, z = at
    high = float(rng.normal(28, 3))
    bones, notch = _bones(at, rng, high)
    femur, tibia, patella = bones["femur"], bones["tibia"], bones["patella"]
    # Fluid in the gap and in the pouch above the patella.
    wet = rng.uniform(0.2, 1.0)
    around = np.maximum(np.minimum(femur, patella) - 2 - wet, np.maximum(z - 30 - 0.3 * y, -z - 7))
    canvas.paint("synovia", around)
    canvas.paint("synovia", tube(at, [(0, 30, 46, 1 + wet), (0, 25, 64, wet)]))
    # Ligaments and tendons hardly give a signal.
    cords = (
        [(0, 46, high + 16, 5), (0, 40, 90, 4), (0, 36, 150, 4)],
        [(0, 47, high - 16, 4), (0, 27, -38, 3.6)],
        [(-2, -26, -14, 5), (-5, -16, 4, 5), (-6, -2, 18, 4)],
        [(2, 8, -5, 4), (5, -16, 22, 4)],
        [(-39, -4, 30, 2), (-37, 0, -42, 2)],
        [(39, -8, 26, 2), (33, -22, -26, 2)],
    )
    for cord in cords:
        canvas.paint("meniscus", tube(at, cord))
    # Menisci: wedges that are thick outside, one ring under each condyle.
    reach = np.hypot((np.abs(x) - CONDYLE) * 1.15, y + 5)
    ring = np.maximum(np.abs(reach - 17) - 7, np.abs(z + 2.5) - 0.45 * np.maximum(reach - 10, 0))
    canvas.paint("meniscus", np.maximum(ring, 5 - np.abs(x)))
    # Cartilage over the ends, then cortex, then marrow with the scars of the growth plates.
    thick = rng.uniform(1.7, 3.0)
    faces = np.maximum(femur - thick, np.maximum(z - 34 - 0.4 * y, -notch - 1))
    canvas.paint("cartilage", faces)
    canvas.paint("cartilage", np.maximum(np.maximum(tibia - thick, -z - 9), np.abs(x) - 36))
    canvas.paint("cartilage", np.maximum(patella - thick - 0.5, y - 43))
    scars = {"femur": z - 38 - 3 * np.cos(x / 8), "tibia": z + 24 + 2 * np.cos(x / 11)}
    knobby = 1.0 * np.sin(x / 3.7) * np.sin(y / 4.1 + 1) * np.sin(z / 3.9 + 2)
    for name in ("femur", "tibia", "fibula", "patella"):
        body = bones[name]
        shell = 1.0 + 3.0 * np.clip((np.abs(z) - 45) / 40, 0, 1)  # the cortex is thick along the shafts
        canvas.paint("bone", body)
        canvas.paint("marrow", body + shell)
        inside = canvas.coverage(body + shell + 2)
        canvas.paint("bone", 2.4 + knobby, within=inside)  # trabeculae
        if name in scars:
            canvas.paint("bone", np.abs(scars[name]) - 0.5, within=inside)
