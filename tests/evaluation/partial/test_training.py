"""Training of the last block against a plain loop, and the choice of rate and length."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from msn_mm.datasets.keys import PERMUTATION_STREAM, SampleKey, philox
from msn_mm.errors import UserError
from msn_mm.evaluation.cross_validation import stratified_folds
from msn_mm.evaluation.partial.choice import choose_trial
from msn_mm.evaluation.partial.recipe import DEFAULT_TRIAL, PartialRecipe, Trial
from msn_mm.evaluation.partial.tokens import TokenStore
from msn_mm.evaluation.partial.training import LabelledTokens, LastBlockTrainer, rate_factor
from msn_mm.models.backbones.masked_vit import MaskedViT
from msn_mm.models.ops.stochastic_depth import draw_gates

CLASSES = 4


def vit(dtype: torch.dtype = torch.float64) -> MaskedViT:
    torch.manual_seed(0)
    built = MaskedViT(
        *("vit_tiny_patch16_224", 32, 8, 1), embed_dim=12, depth=2, num_heads=3, init_values=0.5
    )
    for parameter in built.parameters():
        nn.init.normal_(parameter, std=0.3)
    return built.to(dtype).eval().requires_grad_(False)


def store(tokens: Tensor, directory: Path = Path(), most: int = 2**30) -> TokenStore:
    """A store of ``(V, n, T, D)`` tokens, filled in two parts."""
    views, images = tokens.shape[:2]
    made = TokenStore(views, images, torch.device("cpu"), tokens.dtype, directory, most)
    for view in range(views):
        made.put(view, 0, tokens[view, :5])
        made.put(view, 5, tokens[view, 5:])
    return made


def problem(n: int = 20, dtype: torch.dtype = torch.float64, noise: float = 1.0) -> LabelledTokens:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(n) % CLASSES
    means = torch.randn(CLASSES, 1, 12, generator=generator)
    crops = means[labels] + noise * torch.randn(3, n, 6, 12, generator=generator)
    central = means[labels] + noise * torch.randn(1, n, 6, 12, generator=generator)
    stores = store(crops.to(dtype)), store(central.to(dtype))
    return LabelledTokens(
        lambda: stores,
        np.arange(100, 100 + 3 * n, 3),
        labels.numpy(),
        CLASSES,
    )


RECIPE = PartialRecipe(batch=8, seed=5)


@pytest.mark.parametrize("pass_batch", [64, 3])
def test_steps_are_those_of_a_plain_loop(pass_batch: int) -> None:
    """AdamW, smoothing, schedule, layer-wise rates, order and drop path, by their formulas."""
    data, trunk = problem(), vit()
    rows = np.array([0, 1, 2, 3, 4, 6, 7, 9, 10, 12, 13, 14, 15, 16, 17, 18, 19])
    trainer = LastBlockTrainer(trunk, RECIPE, pass_batch=pass_batch)
    start = trainer.start
    trainer.start = lambda classes: start(classes).double()  # type: ignore[method-assign]
    trained = trainer.train(data, rows, Trial(0.02, 5))

    model = start(CLASSES).double()
    block = model.block
    weights = dict(model.named_parameters())
    first = {name: torch.zeros_like(value) for name, value in weights.items()}
    second = {name: torch.zeros_like(value) for name, value in weights.items()}
    steps = 5 * 5  # 17 images: 5 batches of at most 4
    for step in range(steps):
        epoch, number = divmod(step, 5)
        order = philox(5, epoch, 0, 0, PERMUTATION_STREAM).permutation(rows)
        batch = np.array_split(order, 5)[number]
        assert len(batch) in (3, 4)
        tokens = data.crops.get(epoch % 3, torch.from_numpy(batch))
        keys = [SampleKey(int(data.indices[row]), 5, epoch).view_key(0) for row in batch]
        gates = draw_gates([0.2, 0.2], len(batch), torch.tensor(keys), torch.device("cpu"))
        gate = gates.double()[:, :, None, None]
        x = tokens + gate[0] * block.ls1(block.attn(block.norm1(tokens)))
        x = x + gate[1] * block.ls2(block.mlp(block.norm2(x)))
        logits = model.norm(x[:, 0]) @ weights["head.weight"].T + weights["head.bias"]
        log_p = logits - logits.exp().sum(1, keepdim=True).log()
        wanted = torch.full_like(log_p, 0.1 / CLASSES)
        wanted[range(len(batch)), data.labels[batch]] += 0.9
        loss = -(wanted * log_p).sum(1).mean()
        gradients = torch.autograd.grad(loss, list(weights.values()))
        # 5 % of 25 steps: one step of warm-up, at half the rate.
        rate = 0.02 * (0.5 if step == 0 else (1 + math.cos(math.pi * (step - 1) / 24)) / 2)
        for (name, value), gradient in zip(weights.items(), gradients, strict=True):
            lr = rate * (0.65 if name.startswith("block.") else 1.0)
            decay = 0.05 if value.ndim > 1 else 0.0
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.999 * second[name] + 0.001 * gradient**2
            m = first[name] / (1 - 0.9 ** (step + 1))
            v = second[name] / (1 - 0.999 ** (step + 1))
            value.data -= lr * decay * value.data + lr * m / (v.sqrt() + 1e-8)
    for name, value in trained.named_parameters():
        torch.testing.assert_close(value, weights[name].data, rtol=1e-9, atol=1e-11, msg=name)
        assert not torch.equal(value, dict(start(CLASSES).double().named_parameters())[name]), name


def test_the_schedule() -> None:
    factors = [rate_factor(step, 100, 0.05) for step in range(100)]
    assert factors[:6] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])
    assert max(factors) == 1 and 0 < factors[-1] < 1e-3
    assert factors[5:] == sorted(factors[5:], reverse=True)
    assert rate_factor(0, 1, 0.05) == 1


def test_one_seed_one_result_and_the_trunk_stays() -> None:
    data, trunk = problem(dtype=torch.float32), vit(torch.float32)
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    rows = np.arange(20)

    def weights(recipe: PartialRecipe = RECIPE) -> dict[str, Tensor]:
        torch.rand(7)  # where the global generator stands does not matter
        return LastBlockTrainer(trunk, recipe).train(data, rows, Trial(0.01, 4)).state_dict()

    one, two, other = weights(), weights(), weights(PartialRecipe(batch=8, seed=6))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])
    assert all(torch.equal(value, before[name]) for name, value in trunk.state_dict().items())


def test_the_choice_is_that_of_a_slow_loop() -> None:
    data = problem(24, torch.float32, noise=3.0)
    recipe = PartialRecipe(learning_rates=(1e-4, 3e-2), epochs=(2, 5), folds=3, seed=2)
    assert (recipe.batch_of(20), recipe.batch_of(10**6)) == (4, 256)
    trainer = LastBlockTrainer(vit(torch.float32), recipe)
    rows = np.arange(2, 22)
    choice = choose_trial(trainer, data, rows)
    fold = stratified_folds(data.labels[rows], 3, seed=2)
    found = {}
    for trial in recipe.trials:
        right, loss = 0, 0.0
        for number in range(3):
            model = trainer.train(data, rows[fold != number], trial, batch=4)
            for row in rows[fold == number]:
                logits = model(data.central.get(0, torch.tensor([row])))[0].double()
                right += int(logits.argmax()) == data.labels[row]
                loss += float(torch.logsumexp(logits, 0) - logits[data.labels[row]])
        found[trial] = (right, -loss)
        assert choice.accuracy[trial] == pytest.approx(100 * right / 20)
        assert choice.log_loss[trial] == pytest.approx(loss / 20, rel=1e-4)
    assert choice.source == "cross-validation"
    assert choice.trial == max(found, key=lambda trial: found[trial])
    assert len({right for right, _ in found.values()}) > 1


def test_where_there_is_nothing_to_choose() -> None:
    data = problem(24, torch.float32)
    trainer = LastBlockTrainer(vit(torch.float32), PartialRecipe())
    alone = choose_trial(trainer, data, np.arange(4))
    assert (alone.trial, alone.source, alone.accuracy) == (DEFAULT_TRIAL, "default", {})
    for rates, lengths, nearest in (
        ((0.1, 0.01), (5, 2), Trial(0.01, 5)),
        ((1e-3, 1e-5), (300, 150), Trial(1e-3, 150)),
        ((1e-2, 1e-4), (50, 200), Trial(1e-4, 50)),  # a tie: the lowest, the shortest
    ):
        grid = PartialRecipe(learning_rates=rates, epochs=lengths)
        assert grid.default_trial == nearest
        assert grid.settings()["default_trial"] == {"lr": nearest.lr, "epochs": nearest.epochs}
    few = PartialRecipe(learning_rates=(0.1, 0.01), epochs=(2,))
    own = choose_trial(LastBlockTrainer(trainer.trunk, few), data, np.arange(4))
    assert (own.trial, own.source) == (Trial(0.01, 2), "default")
    one = PartialRecipe(learning_rates=(0.5,), epochs=(3, 3))
    given = choose_trial(LastBlockTrainer(trainer.trunk, one), data, np.arange(24))
    assert (given.trial, given.source) == (Trial(0.5, 3), "given")


def test_a_rate_that_diverges_is_not_chosen() -> None:
    data = problem(24, torch.float32)
    recipe = PartialRecipe(learning_rates=(1e30, 1e-4), epochs=(3,), folds=2)
    choice = choose_trial(LastBlockTrainer(vit(torch.float32), recipe), data, np.arange(24))
    assert choice.trial == Trial(1e-4, 3)
    assert choice.accuracy[Trial(1e30, 3)] == 0


def test_a_grid_that_only_diverges_is_told() -> None:
    data = problem(24, torch.float32)
    recipe = PartialRecipe(learning_rates=(1e30, 1e25), epochs=(3,), folds=2)
    with pytest.raises(UserError, match=r"diverged .*lr 1e.30 x 3 epochs, lr 1e.25.*lower --lrs"):
        choose_trial(LastBlockTrainer(vit(torch.float32), recipe), data, np.arange(24))


def test_a_finished_training_keeps_no_gradients() -> None:
    data = problem(dtype=torch.float32)
    trained = LastBlockTrainer(vit(torch.float32), RECIPE).train(data, np.arange(8), Trial(0.01, 1))
    assert all(weight.grad is None for weight in trained.parameters())


@pytest.mark.parametrize("amp", [False, True])
def test_half_precision_is_for_the_block_alone(amp: bool) -> None:
    data = problem(dtype=torch.float32)
    trainer = LastBlockTrainer(vit(torch.float32), RECIPE, amp=amp)
    start, seen = trainer.start, set()

    def watched(classes: int) -> nn.Module:
        model = start(classes)
        for name in ("block.mlp.fc1", "norm", "head"):
            model.get_submodule(name).register_forward_hook(
                lambda *given, name=name: seen.add((name, given[-1].dtype))
            )
        return model

    trainer.start = watched  # type: ignore[method-assign,assignment]
    model = trainer.train(data, np.arange(8), Trial(0.01, 1))
    half = torch.bfloat16 if amp else torch.float32
    wanted = {("block.mlp.fc1", half), ("norm", torch.float32), ("head", torch.float32)}
    assert seen == wanted, "in training"
    seen.clear()
    assert trainer.logits(model, data.central.get(0, torch.arange(3))).dtype == torch.float32
    assert seen == wanted, "in evaluation"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tokens_are_the_same_in_a_file(tmp_path: Path, dtype: torch.dtype) -> None:
    tokens = torch.randn(3, 11, 5, 8).to(dtype)
    rows = torch.tensor([10, 0, 4])
    memory, file = store(tokens), store(tokens, tmp_path, most=100)
    assert memory.place == "in memory" and file.place == f"in a file below {tmp_path}"
    assert memory.size == file.size == tokens.numel() * dtype.itemsize
    assert not list(tmp_path.iterdir()), "the file has no name that a killed run could leave"
    for view in range(3):
        got = file.get(view, rows)
        assert got.dtype == torch.float32
        assert torch.equal(got, tokens[view, rows].float())
        assert torch.equal(memory.get(view, rows), got)


def test_no_room_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def refused(*_: object, **__: object) -> None:
        raise RuntimeError("unable to mmap 1 bytes\nException raised from somewhere")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(UserError, match=r"11 images in 3 view.* take .*--memory.*lower --views"):
        store(torch.randn(3, 11, 5, 8), tmp_path, most=100)
    # 4096 images of 5 tokens of 8 float32
    with pytest.raises(
        UserError, match=r"take 0\.6 MiB.*; raise --memory, or give an --out"
    ) as one:
        store(torch.randn(1, 4096, 5, 8), tmp_path, most=100)
    assert "--views" not in str(one.value) and "--amp" in str(one.value)
    monkeypatch.undo()
    monkeypatch.setattr("torch.from_file", refused)
    with pytest.raises(UserError, match=r"\(unable to mmap 1 bytes\); raise --memory") as other:
        store(torch.randn(3, 11, 5, 8).bfloat16(), tmp_path, most=100)
    assert "\n" not in str(other.value) and "--amp" not in str(other.value)
    assert not list(tmp_path.iterdir())


def test_impossible_recipes() -> None:
    with pytest.raises(UserError, match="at least one learning rate"):
        PartialRecipe(learning_rates=())
    with pytest.raises(UserError, match="1 folds hold nothing out"):
        PartialRecipe(folds=1)
