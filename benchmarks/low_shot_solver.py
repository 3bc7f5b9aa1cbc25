"""Time cyanure against scikit-learn on the low-shot classifier, at the same objective.

    python benchmarks/low_shot_solver.py [--images 12820] [--classes 1000] [--width 1024]
        [--runs cyanure/auto:1e-3 sklearn:1e-8] [--threads 1] [--json FILE]

The default is the size of 1 % of ImageNet-1K with a ViT-L: 12,820 unit-norm
features of width 1,024 in 1,000 classes. They are synthetic but built like
learned ones: classes lie in groups, and all differences are strongest in few
directions. Held-out queries come from the same classes.

A run is ``SOLVER:TOLERANCE`` with cyanure (``cyanure`` alone: by the algorithm
that msn_mm uses, ``cyanure/qning-ista``: by another; the tolerance is the
relative duality gap) or sklearn (L-BFGS; the tolerance is the largest
gradient). Each has a process of its own, one after the other, so that peaks of
memory stay apart: the peak counts from the loaded features on. The objective is
``mean CE + lambd / (2 n) ||W||^2``; the lowest one found is the reference for
the excess and for the labels that agree.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RUNS = ("cyanure/auto:1e-3", "cyanure/qning-ista:1e-3", "cyanure/qning-ista:1e-6", "sklearn:1e-8")


def main() -> None:
    """Measure every run in its own process and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=12_820, help="labelled images")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--width", type=int, default=1024, help="width of a feature")
    parser.add_argument("--queries", type=int, default=10_000, help="held-out images")
    parser.add_argument("--noise", type=float, default=2.8, help="spread within a class")
    parser.add_argument("--lambd", type=float, default=0.0025)
    parser.add_argument("--max-epochs", type=int, default=3000, help="of tolerances below 1e-3")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", nargs="+", default=RUNS, metavar="SOLVER:TOL")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--child", nargs=2, metavar=("RUN", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args, args.child[0], Path(args.child[1]))
        return
    with tempfile.TemporaryDirectory() as name:
        measure(args, Path(name))


def measure(args: argparse.Namespace, folder: Path) -> None:
    """Run the children and compare what they leave."""
    import numpy as np

    from msn_mm.evaluation.logistic_regression import LinearClassifier
    from msn_mm.utils.results import format_table

    train, labels, query, truth = features(args)
    np.savez(folder / "train.npz", features=train, labels=labels)
    threads = {f"{lib}_NUM_THREADS": str(args.threads) for lib in ("OMP", "OPENBLAS", "MKL")}
    results: list[dict[str, Any]] = []
    for number, run in enumerate(args.runs):
        command = [sys.executable, __file__, *sys.argv[1:], "--child", run, str(folder)]
        load = os.getloadavg()[0]
        subprocess.run(command, check=True, env=os.environ | threads)
        with np.load(folder / "fit.npz", allow_pickle=False) as file:
            fit = {key: file[key] for key in file.files}
        classifier = LinearClassifier(fit["weights"], np.unique(labels))
        ranks = classifier.ranks(query, truth)
        penalty = args.lambd / 2 * float((classifier.weights**2).sum())
        results.append(
            {
                "run": run,
                "seconds": float(fit["seconds"]),
                "passes": int(fit["passes"]),
                "peak_mib": float(fit["peak"]) / 2**20,
                "objective": (classifier.log_loss(train, labels) + penalty) / len(labels),
                "top1": 100 * float((ranks < 1).mean()),
                "top5": 100 * float((ranks < 5).mean()),
                "load": load,
            }
        )
        np.save(folder / f"{number}.npy", classifier.predict(query))
        print(f"{run}: {results[-1]['seconds']:.1f} s", file=sys.stderr)
    best = min(range(len(results)), key=lambda number: results[number]["objective"])
    reference, least = np.load(folder / f"{best}.npy"), results[best]["objective"]
    for number, result in enumerate(results):
        result["excess"] = result["objective"] / least - 1
        result["agreement"] = 100 * float((np.load(folder / f"{number}.npy") == reference).mean())
    print(
        f"{args.images:,} x {args.width:,} features, {args.classes:,} classes, {len(truth):,} "
        f"queries, lambd {args.lambd:g}, {args.threads} thread(s) of {os.cpu_count()} cores"
    )
    header = ["run", "seconds", "passes", "peak MiB", "objective", "excess", "same labels %"]
    table = [
        [
            result["run"],
            f"{result['seconds']:.1f}",
            str(result["passes"]),
            f"{result['peak_mib']:.0f}",
            f"{result['objective']:.7f}",
            f"{result['excess']:.1e}",
            f"{result['agreement']:.2f}",
            f"{result['top1']:.2f}",
            f"{result['top5']:.2f}",
            f"{result['load']:.1f}",
        ]
        for result in results
    ]
    print(format_table([*header, "top-1 %", "top-5 %", "load before"], table))
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


def features(args: argparse.Namespace) -> Any:
    """Features and labels to learn from, and held-out ones."""
    import numpy as np

    from msn_mm.evaluation.features import center_and_normalize

    rng = np.random.default_rng(0)
    spectrum = np.arange(1, args.width + 1) ** -0.5
    groups = max(2, round(args.classes**0.5))
    centres = rng.normal(size=(groups, args.width))[rng.integers(groups, size=args.classes)]
    means = centres + 0.7 * rng.normal(size=centres.shape)

    def draw(number: int) -> Any:
        labels = np.arange(number) % args.classes
        spread = args.noise * rng.normal(size=(number, args.width))
        return center_and_normalize((means[labels] + spread) * spectrum), labels

    return *draw(args.images), *draw(args.queries)


def child(args: argparse.Namespace, run: str, folder: Path) -> None:
    """Fit once and leave weights, seconds and the peak of memory in ``fit.npz``."""
    import numpy as np

    solver, _, tolerance = run.partition(":")
    tol = float(tolerance)
    with np.load(folder / "train.npz", allow_pickle=False) as file:
        train, labels = file["features"], file["labels"]
    if solver == "sklearn":
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=1 / args.lambd, fit_intercept=False, tol=tol, max_iter=50_000)
        before = restart_peak()
        start = time.perf_counter()
        model.fit(train, labels)
        seconds = time.perf_counter() - start
        weights, passes = model.coef_.T, int(model.n_iter_[0])
    else:
        from msn_mm.evaluation.logistic_regression import SOLVER, fit_logistic_regression

        algorithm = solver.partition("/")[2] or SOLVER
        epochs = 300 if tol >= 1e-3 else args.max_epochs
        before = restart_peak()
        start = time.perf_counter()
        classifier = fit_logistic_regression(
            train, labels, args.lambd, tol, epochs, solver=algorithm, threads=args.threads
        )
        seconds = time.perf_counter() - start
        weights, passes = classifier.weights, classifier.passes
    np.savez(
        folder / "fit.npz", weights=weights, seconds=seconds, passes=passes, peak=peak() - before
    )


def restart_peak() -> int:
    """Forget the peak of memory so far, where Linux can, and return the memory in use, bytes."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak() -> int:
    """The peak of memory since :func:`restart_peak`, bytes."""
    return _status("VmHWM")


def _status(key: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    main()
