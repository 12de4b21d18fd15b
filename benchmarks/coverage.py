"""Does the bound on the accuracy drop hold as often as it says, and how much wider is it than it must be?

2,000 simulated data sets for each of twelve settings: number of images, true drop, share of images whose answer turns
from right to wrong or back. Counted is how often the true drop is at most the 95 % bound. Its width is held against the
usual normal (Wald) bound, and for the smallest sets against the exact unconditional test computed outright, over every
outcome.

    python benchmarks/coverage.py --out benchmarks/results/coverage.json
"""

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
from scipy.stats import multinomial, norm

from vitlet.certify.paired import Paired, p_value, score, upper_bound
from vitlet.measure.environment import environment
from vitlet.records import to_json
from vitlet.whole_file import put_whole

IMAGES = (100, 500, 2_000, 10_000)
#: True drop, and share of changed images.
CHANGES = ((0.0, 0.01), (0.005, 0.02), (0.02, 0.1))
DATA_SETS = 2000
#: Up to so many images every outcome is gone through.
FEW = 100


def outright(seen, confidence=0.95):
    """The upper bound by the exact test's definition: the drop from which on the probability is too small."""
    n = seen.images
    lost, won = np.array([(a, b) for a in range(n + 1) for b in range(n + 1 - a)]).T

    def probability(drop):
        scores = score(n, lost, won, drop)
        low = scores <= score(n, np.array(seen.lost), np.array(seen.won), drop) + 1e-12
        outcomes = np.stack([lost[low], won[low], n - lost[low] - won[low]], axis=-1)
        changed = np.linspace(abs(drop), min(1.0, abs(drop) + 0.5), 150)
        shares = [((q + drop) / 2, (q - drop) / 2) for q in changed]
        return max(np.nansum(multinomial.pmf(outcomes, n, [a, b, max(0.0, 1 - a - b)])) for a, b in shares)

    low, high = seen.drop, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if probability(middle) <= 1 - confidence else (middle, high)
    return high


def wald(seen):
    deviation = np.sqrt(((seen.lost + seen.won) / seen.images - seen.drop**2) / seen.images)
    return seen.drop + norm.ppf(0.95) * deviation


def setting(images, drop, changed, generator):
    """How often the bound holds, and its width above the seen drop beside others'."""
    drawn = generator.multinomial(images, [(changed + drop) / 2, (changed - drop) / 2, 1 - changed], size=DATA_SETS)
    outcomes, counts = np.unique(drawn[:, :2], axis=0, return_counts=True)
    seen = [Paired(images, int(lost), int(won)) for lost, won in outcomes]
    # The bound is above the true drop exactly where the test does not refuse that.
    holds = np.array([p_value(one, drop) > 0.05 for one in seen])
    common = [seen[place] for place in np.argsort(-counts)[:20]]
    own = np.array([upper_bound(one) - one.drop for one in common])
    row = {
        "images": images,
        "drop": drop,
        "changed": changed,
        "holds": float(counts[holds].sum() / DATA_SETS),
        "wald_holds": float(counts[[wald(one) >= drop for one in seen]].sum() / DATA_SETS),
        "width": float(np.mean(own)),
        "wald_width": float(np.mean([wald(one) - one.drop for one in common])),
    }
    if images <= FEW:
        row["over_exact"] = float(np.max(own[:8] / np.array([outright(one) - one.drop for one in common[:8]])))
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    generator = np.random.default_rng(0)
    rows = []
    for images, (drop, changed) in itertools.product(IMAGES, CHANGES):
        rows.append(setting(images, drop, changed, generator))
        print(rows[-1], flush=True)
    if chosen.out:
        whole = {"data_sets": DATA_SETS, "environment": to_json(environment(1)), "rows": rows}
        put_whole(chosen.out, (json.dumps(whole, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
