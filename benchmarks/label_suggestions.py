"""What suggested labels are worth: accuracy on held-out digits against labels of random images.

    python benchmarks/label_suggestions.py [work_dirs/demo] [--seeds 20] [--json FILE]

From the 1,297 digits that the demo's encoder has seen without labels, some are chosen
at random or by each method of msn-mm label-suggest. Logistic regression, its
regularisation chosen as msn-mm fit chooses it, learns from their labels alone and is
asked about the 500 digits held out. Every seed draws all sides anew.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from step_rows import print_table, write_json

from msn_mm.datasets import Digits, EvaluationImages
from msn_mm.evaluation.cross_validation import choose_lambda
from msn_mm.evaluation.extraction import extract
from msn_mm.evaluation.features import center_and_normalize
from msn_mm.evaluation.logistic_regression import fit_logistic_regression
from msn_mm.few_labels.choosing import METHODS, choose
from msn_mm.few_labels.encoder import EncoderSource, read_encoder

CLASSES = 10
RANDOM = "random"


def features(source: EncoderSource, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return normalised features and labels of a split."""
    images = EvaluationImages(Digits(split=split), source.view)
    rows, labels = extract(source.build(), images), images.labels
    assert rows is not None and labels is not None
    return center_and_normalize(rows), labels


def chosen_by(side: str, rows: np.ndarray, number: int, seed: int) -> np.ndarray:
    """Return the images that a side labels."""
    if side == RANDOM:
        return np.random.default_rng(seed).permutation(len(rows))[:number]
    small = rows.astype(np.float32)
    return np.array([one.index for one in choose(small, small[:0], number, side, seed)])


def accuracy(
    rows: np.ndarray, labels: np.ndarray, held_out: np.ndarray, truth: np.ndarray
) -> float:
    """Return top-1, in percent, on held-out digits; a class without a label is never answered."""
    names, numbers = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        return 100 * float((truth == names[0]).mean())
    lambd = choose_lambda(rows, numbers).lambd
    classifier = fit_logistic_regression(rows, numbers, lambd)
    answers = names[classifier.decision_function(held_out).argmax(1)]
    return 100 * float((answers == truth).mean())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="?", default="work_dirs/demo")
    parser.add_argument("--budgets", type=int, nargs="+", default=(1, 2, 5), help="labels a class")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    args = parser.parse_args()

    source = read_encoder(args.checkpoint)
    rows, labels = features(source, "pretrain")
    held_out, truth = features(source, "test")
    figures: list[dict[str, Any]] = []
    for budget in args.budgets:
        for side in (RANDOM, *METHODS):
            scores, covered = [], []
            for seed in range(args.seeds):
                chosen = chosen_by(side, rows, budget * CLASSES, seed)
                covered.append(len(set(labels[chosen].tolist())))
                scores.append(accuracy(rows[chosen], labels[chosen], held_out, truth))
            figures.append(
                {
                    "labels": budget * CLASSES,
                    "chosen": side,
                    "classes": statistics.mean(covered),
                    "top1_mean": statistics.mean(scores),
                    "top1_std": statistics.pstdev(scores),
                    "top1_min": min(scores),
                }
            )
    print(f"{source.name}, {args.seeds} seeds; top-1 in % on {len(truth)} held-out digits")
    lines = [
        [
            f"{row['labels']} {row['chosen']}",
            f"{row['classes']:.1f} of {CLASSES}",
            f"{row['top1_mean']:.1f} ± {row['top1_std']:.1f}",
            f"{row['top1_min']:.1f}",
        ]
        for row in figures
    ]
    print_table(["labels, chosen", "classes covered", "top-1", "worst"], lines)
    settings = {k: v for k, v in vars(args).items() if k != "json"}
    write_json(args.json, {**settings, "rows": figures})


if __name__ == "__main__":
    main()
