#!/usr/bin/env python3
"""Reference traces of CMA-ES for cma_test.go from the PyPI package cmaes.

    python3 cma.py > cma.json      # needs cmaes and numpy; the versions used are recorded inside

Each case minimises a function and records, for every generation, the points, their function values,
and the state after the update: mean, step size, evolution paths and covariance matrix.

cmaes counts generations from 1 in the exponent of h_sigma's normalisation, where the tutorial
(arXiv 1604.00772, below eq. 45) counts from 0. Its counter is set back by one, so that the exponent
is the tutorial's. Beyond that it adds 1e-8 to ||C^-1/2 y||^2 in eq. 46: the tolerance of the test
allows it.
"""
import importlib.metadata
import json

import numpy as np
from cmaes import CMA


def ellipsoid(x):
    i = np.arange(len(x))
    return float(np.sum(10.0 ** (4 * i / (len(x) - 1)) * (x - 0.1 * i) ** 2))


def rotated(x):
    y = x.copy()
    for i in range(len(x) - 1):
        y[i], y[i + 1] = (y[i] - y[i + 1]) / np.sqrt(2), (y[i] + y[i + 1]) / np.sqrt(2)
    return ellipsoid(y)


def slope(x):  # the step size grows for ever, so h_sigma is 0
    return float(np.sum(x * np.arange(1, len(x) + 1)))


def case(name, f, n, population, sigma, generations):
    opt = CMA(mean=np.full(n, 0.5), sigma=sigma, population_size=population, seed=7)
    steps, stalled = [], 0
    for g in range(generations):
        xs = [opt.ask() for _ in range(population)]
        values = [f(x) for x in xs]
        opt._g = g - 1
        before = opt._pc.copy()
        opt.tell(list(zip(xs, values)))
        stalled += np.allclose(opt._pc, (1 - opt._cc) * before)
        steps.append({"points": [x.tolist() for x in xs], "values": values,
                      "mean": opt._mean.tolist(), "sigma": float(opt._sigma),
                      "p_sigma": opt._p_sigma.tolist(), "p_c": opt._pc.tolist(),
                      "c": opt._C.tolist()})
    return {"name": name, "mean": [0.5] * n, "sigma": sigma, "population": population,
            "stalled": int(stalled), "generations": steps}


cases = [
    case("ellipsoid in 5 dimensions", ellipsoid, 5, 8, 0.3, 25),
    case("rotated ellipsoid in 4 dimensions, 7 points", rotated, 4, 7, 0.3, 20),
    case("slope in 3 dimensions, 12 points", slope, 3, 12, 0.01, 15),
    case("ellipsoid in 2 dimensions, 30 points", ellipsoid, 2, 30, 0.2, 6),
]
doc = {"command": "python3 testdata/cma.py > testdata/cma.json", "numpy": np.__version__,
       "cmaes": importlib.metadata.version("cmaes")}
print("{" + ",\n".join(f'"{k}": {json.dumps(v)}' for k, v in doc.items()) + ',\n"cases": [')
print(",\n".join(json.dumps(c) for c in cases) + "\n]}")
