from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import logsumexp
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from msn_mm.errors import UserError
from msn_mm.evaluation import (
    center_and_normalize,
    choose_lambda,
    compact,
    draw_splits,
    evaluate_splits,
    fit_logistic_regression,
    low_shot_accuracy,
)
from msn_mm.evaluation import logistic_regression as solver_module


def _gaussians(
    classes: int, per_class: int, dim: int = 12, spread: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, dim)) * 2
    labels = np.repeat(np.arange(classes), per_class)
    return centres[labels] + spread * rng.normal(size=(len(labels), dim)), labels


def _objective(weights: np.ndarray, x: np.ndarray, y: np.ndarray, lambd: float) -> float:
    logits = x @ weights
    nll = logsumexp(logits, axis=1) - logits[np.arange(len(y)), y]
    return float(nll.mean() + lambd / (2 * len(y)) * (weights**2).sum())


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("lambd", [0.0025, 0.5])
def test_agrees_with_scikit_learn_on_the_same_objective(classes: int, lambd: float) -> None:
    features, labels = _gaussians(classes, 8)
    x = center_and_normalize(features)
    ours = fit_logistic_regression(x, labels, lambd, tol=1e-9, max_epochs=20000)
    # scikit-learn: C * sum CE + ||W||^2 / 2; for two classes a single vector,
    # the difference of the two columns
    reference = LogisticRegression(
        C=(2 if classes == 2 else 1) / lambd, fit_intercept=False, tol=1e-10, max_iter=20000
    ).fit(x, labels)
    weights = reference.coef_.T
    if classes == 2:
        weights = np.concatenate([-weights / 2, weights / 2], axis=1)
    np.testing.assert_allclose(ours.weights, weights, atol=2e-3 * np.abs(weights).max())
    query = center_and_normalize(_gaussians(classes, 50, spread=2.0, seed=1)[0])
    assert np.array_equal(ours.predict(query), reference.predict(query))


@pytest.mark.parametrize("classes", [2, 5])
def test_default_tolerance_reaches_the_optimum_to_a_thousandth(classes: int) -> None:
    features, labels = _gaussians(classes, 5, spread=2.0)
    x = center_and_normalize(features)
    ours = _objective(fit_logistic_regression(x, labels, 0.05).weights, x, labels, 0.05)
    exact = fit_logistic_regression(x, labels, 0.05, tol=1e-10, max_epochs=20000)
    best = _objective(exact.weights, x, labels, 0.05)
    assert best <= ours <= best * 1.0015


def test_labels_need_not_count_from_zero() -> None:
    features, labels = _gaussians(3, 6)
    x = center_and_normalize(features)
    names = np.array([4, 17, 1000])
    shifted = fit_logistic_regression(x, names[labels])
    plain = fit_logistic_regression(x, labels)
    np.testing.assert_array_equal(shifted.weights, plain.weights)
    np.testing.assert_array_equal(shifted.predict(x), names[plain.predict(x)])
    two = labels < 2
    assert set(fit_logistic_regression(x[two], names[labels[two]]).predict(x)) == {4, 17}


def test_accuracy_of_separable_classes_noise_and_the_layout_of_the_result() -> None:
    support, support_labels = _gaussians(4, 20, spread=0.05)
    query, query_labels = _gaussians(4, 10, spread=0.05, seed=1)
    result = low_shot_accuracy(support, support_labels, query, query_labels, splits=4)
    assert list(result) == ["1", "2", "5"]
    for shots, value in result.items():
        assert value["top1_mean"] == 100.0
        assert value["top1_std"] == 0.0
        assert value["top1"] == [100.0] * 4
        assert value["lambd"] == [0.0025] * 4
        assert value["images"] == [4 * int(shots)] * 4
    noise = np.random.default_rng(0).normal(size=(len(query), support.shape[1]))
    chance = low_shot_accuracy(support, support_labels, noise, query_labels, [5], splits=8)["5"]
    assert 5 < chance["top1_mean"] < 45
    assert chance["top1_std"] == pytest.approx(np.std(chance["top1"], ddof=1))
    assert chance["top1_mean"] == pytest.approx(np.mean(chance["top1"]))


def test_same_seed_same_numbers_and_another_seed_other_splits() -> None:
    support, support_labels = _gaussians(4, 20, spread=3.0)
    query, query_labels = _gaussians(4, 30, spread=3.0, seed=1)

    def run(seed: int) -> dict:
        return low_shot_accuracy(
            support, support_labels, query, query_labels, [2], splits=5, seed=seed
        )

    assert run(0) == run(0)
    assert run(0)["2"]["top1"] != run(1)["2"]["top1"]


def test_torch_keeps_its_threads() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        features, labels = _gaussians(3, 6)
        fit_logistic_regression(center_and_normalize(features), labels)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_too_many_shots_fails_before_any_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    support, support_labels = _gaussians(3, 4)
    monkeypatch.setattr("msn_mm.evaluation.lowshot.fit_logistic_regression", pytest.fail)
    with pytest.raises(UserError, match="ask for at most 4"):
        low_shot_accuracy(support, support_labels, support, support_labels, [1, 5])


def test_wrong_arguments() -> None:
    x, y = _gaussians(2, 3)
    with pytest.raises(UserError, match="at least 2 classes"):
        fit_logistic_regression(x, np.zeros(6, dtype=int))
    with pytest.raises(ValueError, match="lambd"):
        fit_logistic_regression(x, y, lambd=0)
    with pytest.raises(ValueError, match="do not fit"):
        fit_logistic_regression(x, y[:3])
    with pytest.raises(ValueError, match="splits"):
        low_shot_accuracy(x, y, x, y, splits=0)
    with pytest.raises(ValueError, match="images_per_class"):
        low_shot_accuracy(x, y, x, y, [])


def test_raw_pixels_of_real_digits() -> None:
    digits = load_digits()
    pixels = np.stack(
        [
            np.asarray(
                Image.fromarray((image * 255 / 16).astype(np.uint8)).resize(
                    (32, 32), Image.Resampling.BICUBIC
                )
            ).reshape(-1)
            for image in digits.images
        ]
    )
    order = np.random.default_rng(0).permutation(len(pixels))
    query, support = order[:500], order[500:]
    result = low_shot_accuracy(
        pixels[support], digits.target[support], pixels[query], digits.target[query], splits=20
    )
    means = [result[n]["top1_mean"] for n in ("1", "2", "5")]
    np.testing.assert_allclose(means, [64, 76.5, 85], atol=4)
    assert means[0] < means[1] < means[2]


def test_given_subsets_are_measured_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver_module, "_BLOCK_ENTRIES", 50)
    support, support_labels = _gaussians(8, 30, spread=3.0)
    query, query_labels = _gaussians(8, 20, spread=3.0, seed=1)
    splits = draw_splits(support_labels, (1,), (0.2,), splits=3)
    calls = []
    result = evaluate_splits(
        support,
        support_labels,
        query,
        query_labels,
        splits,
        lambd=0.03,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(n, 6) for n in range(7)]
    assert list(result) == ["1", "20%"]
    q = center_and_normalize(query)
    for column, value in result.items():
        for number, subset in enumerate(splits[column]):
            x, y = center_and_normalize(support[subset]), support_labels[subset]
            classifier = fit_logistic_regression(x, y, 0.03)
            best = classifier.top_k(q, 5)
            hits = best == query_labels[:, None]
            assert value["top1"][number] == pytest.approx(100 * hits[:, 0].mean())
            assert value["top5"][number] == pytest.approx(100 * hits.any(axis=1).mean())
        for key in ("top1", "top5"):
            assert value[f"{key}_mean"] == pytest.approx(np.mean(value[key]))
            assert value[f"{key}_std"] == pytest.approx(np.std(value[key], ddof=1))
        assert value["lambd"] == [0.03] * 3
        assert 0 <= max(value["gap"]) <= 1e-3
        assert value["lambd_from"] == ["given"] * 3
        assert value["images"] == [8 if column == "1" else 48] * 3
        assert len(value["seconds"]) == 3
        assert min(value["seconds"]) > 0
    assert max(result["1"]["top1"]) < min(result["1"]["top5"])


def test_features_of_the_union_are_enough() -> None:
    support, support_labels = _gaussians(4, 20, spread=3.0)
    query, query_labels = _gaussians(4, 20, spread=3.0, seed=1)
    splits = draw_splits(support_labels, (1, 2), splits=3)
    union, local = compact(splits)

    def top1(*arguments: object) -> list[list[float]]:
        return [value["top1"] for value in evaluate_splits(*arguments).values()]

    whole = top1(support, support_labels, query, query_labels, splits)
    assert whole == top1(support[union], support_labels[union], query, query_labels, local)


def test_top5_needs_more_than_five_classes() -> None:
    for classes in (5, 6):
        x, y = _gaussians(classes, 4)
        assert ("top5" in low_shot_accuracy(x, y, x, y, [1], splits=2)["1"]) == (classes > 5)


def test_equal_scores_go_to_the_smaller_labels() -> None:
    # all features alike: every class is as likely as every other
    x, y = np.ones((16, 3)), np.repeat(np.arange(8), 2)
    result = low_shot_accuracy(x, y, x, y, [1], splits=2)["1"]
    assert result["top1_mean"] == pytest.approx(100 / 8)
    assert result["top5_mean"] == pytest.approx(100 * 5 / 8)


def test_the_regularisation_is_chosen_inside_the_labelled_images() -> None:
    support, support_labels = _gaussians(3, 40, spread=4.0)
    query, query_labels = _gaussians(3, 30, spread=4.0, seed=1)
    splits = draw_splits(support_labels, (1, 9), splits=4)

    def run(query: np.ndarray, query_labels: np.ndarray) -> dict:
        return evaluate_splits(support, support_labels, query, query_labels, splits, lambd="cv")

    result = run(query, query_labels)
    expected = []
    for subset in splits["9"]:
        x = center_and_normalize(support[subset])
        expected.append(choose_lambda(x, support_labels[subset]).lambd)
    assert result["9"]["lambd"] == expected
    assert len(set(expected)) > 1
    assert result["9"]["lambd_from"] == ["cross-validation"] * 4
    # with one image a class there is nothing to validate on
    assert result["1"]["lambd"] == [0.0025] * 4
    assert result["1"]["lambd_from"] == ["released"] * 4
    # neither the answers nor the questions matter to the choice
    assert run(query, (query_labels + 1) % 3)["9"]["lambd"] == expected
    assert run(query[::-1] ** 2, query_labels)["9"]["lambd"] == expected


def test_support_images_outside_a_split_do_not_matter_to_the_choice() -> None:
    support, support_labels = _gaussians(3, 40, spread=4.0)
    splits = draw_splits(support_labels, (9,), splits=2)
    union, _ = compact(splits)
    others = np.setdiff1d(np.arange(len(support)), union)
    changed = support.copy()
    changed[others] = -changed[others]
    results = [
        evaluate_splits(x, support_labels, support, support_labels, splits, lambd="cv")["9"]
        for x in (support, changed)
    ]
    assert results[0]["lambd"] == results[1]["lambd"]
    assert results[0]["top1"] == results[1]["top1"]


def test_a_class_that_is_asked_for_but_not_labelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msn_mm.evaluation.lowshot.fit_logistic_regression", pytest.fail)
    support, support_labels = _gaussians(3, 4)
    splits = {"2": [np.arange(12), np.flatnonzero(support_labels != 1)]}
    with pytest.raises(UserError, match="class 'bee', of which split 1 of column '2' has no"):
        evaluate_splits(
            support, support_labels, support, support_labels, splits, class_names=["ant", "bee"]
        )
    with pytest.raises(UserError, match="class 7, of which split 0"):
        evaluate_splits(support, support_labels, support[:1], np.array([7]), splits)


def test_a_labelled_class_need_not_be_asked_for() -> None:
    support, support_labels = _gaussians(3, 4)
    asked = support_labels < 2
    splits = draw_splits(support_labels, (4,))
    result = evaluate_splits(support, support_labels, support[asked], support_labels[asked], splits)
    assert result["4"]["top1"] == [100.0]


def test_features_that_are_not_finite() -> None:
    support, support_labels = _gaussians(3, 4)
    broken = support.copy()
    broken[5, 3] = np.nan
    arguments = [support, support_labels, support, support_labels]
    for place in (0, 2):
        given = [*arguments]
        given[place] = broken
        with pytest.raises(UserError, match="features of 1 of 12 images are not finite"):
            low_shot_accuracy(*given, images_per_class=[1], splits=1)
    many = np.full((5000, 12), np.inf)
    with pytest.raises(UserError, match="features of 5000 of 5000 images"):
        low_shot_accuracy(support, support_labels, many, np.zeros(5000, dtype=int), [1], 1)


def test_shapes_that_do_not_fit() -> None:
    x, y = _gaussians(3, 4)
    splits = draw_splits(y, (1,))
    for arguments in ((x[:, 0], y, x, y), (x, y, x, y[:3]), (x, y, x[:, :5], y)):
        with pytest.raises(ValueError, match="do not fit"):
            evaluate_splits(*arguments, splits)
    with pytest.raises(ValueError, match="no query image"):
        evaluate_splits(x, y, x[:0], y[:0], splits)
