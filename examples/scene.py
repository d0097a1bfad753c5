"""The solids of the harbour: the town on its quays, and the waterfront with its boats."""

import numpy as np
from solids import Solid, beam, boat, box, drum, house, solid, turn

LAMPS = np.array([[15.8, 5, 27], [15.8, 5, 41], [15.8, 5, 55], [3, 5, 59], [-6.6, 5, 59]], "f4")


def town() -> list[Solid]:
    """Build the houses on both quays, those behind them, and the church."""
    walls = ["a8433a", "e3d3b0", "c97b4a", "6f8f8c", "e8e0cf", "d8b27a", "d9a441", "7b93a6"]
    roofs = ["8e4630", "7a3b2c", "9a5236", "5d5560", "84422f"]
    right = [(32, 7, 7.4, 4.4), (39, 6.2, 8.8, 4), (45.5, 6.4, 6.9, 4.6), (52, 6.2, 8.4, 3.8)]
    ahead = [(-5.2, 6.2, 6, 4), (1, 5.8, 7.6, 4.2), (6.9, 5.8, 6.4, 4.6), (12.9, 6, 8, 4)]
    behind = [(-2, 82, 90, 9), (12, 84, 80, 10), (21, 80, 90, 10), (29, 70, 80, 11)]
    plots = [((24 + 0.4 * (k % 2), z), 90, (w, 9, h, r)) for k, (z, w, h, r) in enumerate(right)]
    plots += [((24, 58.4), 90, (6.2, 9, 7.2, 4.2)), ((18.5, 69.5), 0, (5, 9, 6.6, 4))]
    plots += [((x, 69.5), 0, (w, 9, h, r)) for x, w, h, r in ahead]
    plots += [((x, z), yaw, (8, 9, h, 4.5)) for x, z, yaw, h in behind]
    homes = [house(*p, walls[k % 8], roofs[k % 5], k) for k, p in enumerate(plots)]
    spire = [[2.9, 1, 0, 9.5], [-2.9, 1, 0, 9.5], [0, 1, 2.9, 9.5], [0, 1, -2.9, 9.5]]
    return [
        *(part for home in homes for part in home),
        box("belfry c9b89a", (4.6, 11, 92), (2.8, 10, 2.8), seed=60),
        solid("tile 3f6b62", (4.6, 21, 92), (3.3, 9.5, 3.3), [*spire, [0, -1, 0, 0]], seed=61),
        beam("d8b24a", (4.6, 30, 92), (4.6, 32.4, 92), 0.12),
        beam("d8b24a", (4, 31.6, 92), (5.2, 31.6, 92), 0.12),
    ]


def waterfront() -> list[Solid]:
    """Build the quays, the lighthouse, the boats, the lamps and what stands in front."""
    main = [[-1, 0.42, 0, 3.9], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0.05], [0, 0, -1, 0.05]]
    jib = [[1, 0.36, 0, 2.7], [-1, 0, 0, 0], *main[2:]]
    tower = [("b23a2c" if k % 2 else "f2ece0", 1.6 + 2 * k, 1.5 - 0.1 * k) for k in range(6)]
    bollards = [(-4.2, 14.3), (-3.9, 10.6)]
    return [
        box("stone 8d8478", (45, 0, 45), (30, 1.4, 27)),
        box("stone 8d8478", (26, 0, 76), (35, 1.4, 17)),
        box("stone 8d8478", (-62, 0, 98), (30, 0.9, 1.6)),
        box("stone b3a18a", (-10.6, 0, 11.2), (7.6, 1.6, 4.4), turn(10)),
        *(drum(colour, (-35, y, 98), radius, 1, 0.05) for colour, y, radius in tower),
        drum("5b2a22", (-35, 13.4, 98), 0.8, 0.9, 0.5),
        beam("6b4a2f", (-17, 1, 72), (-17, 11, 72), 0.09),
        solid("plain f4e6cf", (-17.2, 1.6, 72), (5, 9, 1), main),
        solid("plain d8603a", (-16.8, 1.6, 72), (5, 8, 1), jib),
        *boat(-17, 72, 0, 7, "38506b", 0),
        *boat(10.5, 31, 78, 8.5, "2d5d73", 10.5),
        *boat(10.8, 44, 80, 8, "a33b2c", 10),
        *boat(-1.5, 50, 12, 8, "e8e2d4", 9.5),
        *boat(3.2, 24.5, 160, 5, "3f7a6a", 0),
        *boat(-13, 38, 200, 7, "c98a2e", 9),
        *boat(-1.6, 16.2, 25, 4.2, "b5482f", 0),
        beam("c2ab84", (-3.9, 2, 10.6), (-3.3, 0.75, 15.4), 0.025),
        *(beam("2b2b2e", p * [1, 0, 1] + [0, 1.3, 0], p - [0, 0.3, 0], 0.07) for p in LAMPS),
        *(box("lamp ffd08a", p, (0.2, 0.28, 0.2)) for p in LAMPS),
        *(drum("2f3338", (x, 1.9, z), 0.2, 0.36) for x, z in bollards),
        *(drum("2f3338", (x, 2.3, z), 0.3, 0.09) for x, z in bollards),
        box("wood 9c7346", (-6.5, 2.1, 13.7), (0.55, 0.5, 0.55), turn(20), 1),
        box("wood 86613c", (-5.4, 2.0, 13.2), (0.45, 0.4, 0.45), turn(-25), 2),
        box("wood a57c4e", (-6.4, 2.95, 13.7), (0.4, 0.36, 0.4), turn(50), 3),
    ]
