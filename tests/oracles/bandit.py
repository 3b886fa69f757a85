"""What vw-estimators says of random bandit logs: the oracle of src/evaluate/off_policy/bandit.

    bandit.py SEED CASES    as many random logs, each with the package's numbers

Needs vw-estimators==0.2.2, which brings scipy.
"""

import json
import random
import sys

from estimators.bandits import clopper_pearson, cressieread, cs, gaussian, ips, snips


def log(rng):
    """(probability logged, reward, probability under the target) of some rows."""
    rows = rng.choice([2, 5, 30, 200, 1500])
    binary = rng.random() < 0.5
    tilt = rng.choice([0.2, 1.0, 3.0])
    drawn = []
    for _ in range(rows):
        p = rng.uniform(0.05, 1.0)
        q = min(1.0, p * rng.gammavariate(1.0 / tilt, tilt))
        if rng.random() < 0.1:
            q = 0.0
        r = float(rng.random() < 0.4) if binary else rng.random()
        drawn.append((p, r, q))
    return drawn


def said(make, rows, get):
    estimator = make()
    for row in rows:
        estimator.add_example(*row)
    try:
        found = get(estimator)
    except (AssertionError, ValueError, ZeroDivisionError):
        return None
    if isinstance(found, list):
        return None if found[0] is None else [float(v) for v in found]
    return None if found is None else float(found)


def case(rng):
    rows = log(rng)
    alpha = rng.choice([0.01, 0.05, 0.2])
    # The largest weight there can be; what comes up is below it.
    most = max(2.0, 1.5 * max(q / p for p, _, q in rows))
    interval = lambda e: e.get(alpha)
    point = lambda e: e.get()
    return {
        "rows": rows,
        "alpha": alpha,
        "weight_max": most,
        "ips": said(ips.Estimator, rows, point),
        "snips": said(snips.Estimator, rows, point),
        "cressie_read": said(cressieread.Estimator, rows, point),
        "cressie_read_bounded": said(lambda: cressieread.Estimator(0, most), rows, point),
        "cressie_read_interval": said(cressieread.Interval, rows, interval),
        "cressie_read_interval_bounded": said(
            lambda: cressieread.Interval(0, most), rows, interval
        ),
        "gaussian": said(gaussian.Interval, rows, interval),
        "clopper_pearson": said(clopper_pearson.Interval, rows, interval),
        "sequence": said(cs.Interval, rows, interval),
    }


if __name__ == "__main__":
    seed, cases = int(sys.argv[1]), int(sys.argv[2])
    rng = random.Random(seed)
    json.dump([case(rng) for _ in range(cases)], sys.stdout)
