"""What a run is bound by: the verdict, its advice, and the rates that it predicts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from msn_mm.engine.bound import Measured, judge

# 64 images in 0.1 s on a GPU; the input keeps up.
BALANCED = Measured(
    batch=64,
    processes=1,
    accumulation=1,
    workers=4,
    cores=16,
    on_gpu=True,
    threads=8,
    image_s=0.004,
    image_wall_s=0.004,
    input_s=0.07,
    step_s=0.1,
    half_step_s=0.055,
    both_s=0.101,
    memory=0.3,
)


def test_the_step_bounds_a_run_that_waits_for_nothing() -> None:
    verdict = judge(replace(BALANCED, amp_step_s=0.05))
    assert verdict.bound == "step"
    # The input bounds what bfloat16 gives: 64 / 0.07.
    (advice,) = verdict.advice
    assert advice.options == "--amp" and advice.images_per_s == pytest.approx(64 / 0.07)
    assert "bfloat16" not in str(judge(replace(BALANCED, amp_step_s=0.099)).advice)
    (nothing,) = judge(BALANCED).advice
    assert nothing.images_per_s is None and "a faster device" in nothing.text


def test_what_a_step_costs_whatever_the_batch_asks_for_a_larger_one() -> None:
    launches = replace(BALANCED, half_step_s=0.08, input_s=0.02, both_s=0.1)
    assert launches.fixed_s == pytest.approx(0.06)
    (advice,) = judge(launches).advice
    # 0.06 + 2 * 0.04 for 128 images
    assert advice.images_per_s == pytest.approx(128 / 0.14)
    assert advice.options == "--cfg-options global_batch_size=128"
    (apart,) = judge(replace(launches, accumulation=4)).advice
    assert apart.options == "--cfg-options accumulation=2"
    (full,) = judge(replace(launches, memory=0.6)).advice
    assert full.images_per_s is None, "twice the batch would not fit"


def test_too_few_workers() -> None:
    starved = replace(
        BALANCED, workers=2, input_s=0.2, both_s=0.2, image_s=0.005, image_wall_s=0.005
    )
    verdict = judge(starved)
    assert verdict.bound == "input" and "50% of the time" in verdict.reason
    # 1.1 * 64 * 0.005 / 0.1 = 3.5
    advice = verdict.advice[0]
    assert "num_workers=4" in advice.options and len(verdict.advice) == 1
    assert advice.images_per_s == pytest.approx(64 / 0.1)


def test_too_few_cores() -> None:
    starved = replace(
        BALANCED, workers=2, cores=4, input_s=0.4, both_s=0.4, image_s=0.0125, image_wall_s=0.0125
    )
    more, cheaper = judge(starved).advice
    assert "num_workers=3" in more.options
    assert more.images_per_s == pytest.approx(64 / (0.4 * 2 / 3))
    assert "12.5 ms" in cheaper.text and cheaper.images_per_s is None
    none, _ = judge(replace(starved, workers=3)).advice
    assert none.images_per_s is None and "more cores" in none.text


def test_a_slow_disk() -> None:
    # 20 ms an image, 4 of them on a core: 15 workers keep the step busy on 3 cores.
    slow = replace(BALANCED, workers=4, cores=4, input_s=0.32, both_s=0.32, image_wall_s=0.02)
    more, disk = judge(slow).advice
    assert "num_workers=15" in more.options
    assert more.images_per_s == pytest.approx(64 / 0.1)
    assert "80% of the 20.0 ms" in disk.text and "local disk" in disk.text


def test_a_process_that_loads_by_itself() -> None:
    # 64 images at 1 ms of a core before a step of 0.1 s.
    alone = replace(
        BALANCED, workers=0, input_s=0.064, both_s=0.164, image_s=0.001, image_wall_s=0.001
    )
    advice = judge(alone).advice[0]
    assert "num_workers=1" in advice.options and "persistent_workers=True" in advice.options
    assert advice.images_per_s == pytest.approx(64 / 0.1)
    # On a CPU whose cores all belong to the step a worker would only take one away.
    busy = replace(alone, on_gpu=False, cores=8, threads=8)
    assert all(one.images_per_s is None for one in judge(busy).advice)


def test_the_exchange_of_gradients() -> None:
    many = replace(BALANCED, processes=8, silent_step_s=0.07, input_s=0.02, half_step_s=None)
    verdict = judge(many)
    assert verdict.bound == "communication" and "30% of a step" in verdict.reason
    options = {one.options: one.images_per_s for one in verdict.advice}
    # 0.07 in each pass and 0.03 in every second
    assert options["--cfg-options accumulation=2"] == pytest.approx(8 * 64 / 0.085)
    # 2 * 0.07 + 0.03 for twice the images
    assert options["--cfg-options global_batch_size=1024"] == pytest.approx(8 * 128 / 0.17)
    assert [one.images_per_s or 0 for one in verdict.advice] == sorted(
        (one.images_per_s or 0 for one in verdict.advice), reverse=True
    )
    assert judge(replace(many, silent_step_s=0.095)).bound == "step"


def test_noise_gives_no_nonsense() -> None:
    odd = replace(BALANCED, half_step_s=0.12, both_s=0.09, silent_step_s=0.11, input_s=0.0001)
    assert odd.exchange_s == 0 and odd.fixed_s == odd.step_s
    verdict = judge(odd)
    assert verdict.bound == "step"
    assert all(one.images_per_s is None or one.images_per_s > 0 for one in verdict.advice)
