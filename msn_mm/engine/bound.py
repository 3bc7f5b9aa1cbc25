"""What a training is bound by, told from a few measured times, and what would change it.

Legend: b images of a process in one forward pass, t seconds of a pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# A part that takes less than this of the time is not worth a change.
_WORTH = 0.1
# Workers wait for each other at a batch's end and share the machine with the rest.
_SPARE = 1.1
# An image that takes so many times what it costs a core waits for the disk.
_WAITS = 2.0


@dataclass(frozen=True)
class Measured:
    """Times of one forward pass with its share of the optimizer step, of the slowest process.

    Attributes:
        batch: b.
        processes: Processes of the run.
        accumulation: Passes of an optimizer step.
        workers: Data workers of a process; 0 loads in the process itself.
        cores: Cores that a process may use: those of the machine over its processes there.
        on_gpu: Whether the step runs on a device of its own; else on those cores.
        threads: Cores that a step on the CPU keeps busy.
        image_s: Seconds of one core that a worker spends on an image.
        image_wall_s: Seconds that it takes for it, its wait for the disk included and
            that for a core which others had left out (Linux).
        input_s: t of the input alone, as fast as it comes.
        step_s: t of the step alone on a batch in memory, ``b`` images.
        both_s: t of the real loop.
        half_step_s: The same as ``step_s`` on b // 2 images; ``None`` where those would be too few.
        amp_step_s: ``step_s`` in bfloat16; ``None`` where it was not tried.
        silent_step_s: ``step_s`` without the exchange of gradients; ``None`` for one process.
        busy: Share of the time in which other work of the machine had the core.
        memory: Share of the device's memory that the step took at most; ``None`` on a CPU.
    """

    batch: int
    processes: int
    accumulation: int
    workers: int
    cores: int
    on_gpu: bool
    threads: int
    image_s: float
    image_wall_s: float
    input_s: float
    step_s: float
    both_s: float
    half_step_s: float | None = None
    amp_step_s: float | None = None
    silent_step_s: float | None = None
    busy: float = 0.0
    memory: float | None = None

    def rate(self, seconds: float, batch: int | None = None) -> float:
        """Return images a second over all processes at ``seconds`` a pass."""
        return (batch or self.batch) * self.processes / seconds

    @property
    def exchange_s(self) -> float:
        """Seconds of a pass that go to the exchange of gradients and are not hidden."""
        return 0.0 if self.silent_step_s is None else max(0.0, self.step_s - self.silent_step_s)

    @property
    def fixed_s(self) -> float:
        """Seconds of a pass that do not depend on the batch: a line through b and b // 2."""
        if self.half_step_s is None:
            return self.exchange_s
        half = self.batch // 2
        slope = (self.step_s - self.half_step_s) / (self.batch - half)
        return min(self.step_s, max(self.exchange_s, self.step_s - slope * self.batch))

    def pass_s(self, step_s: float, input_s: float) -> float:
        """Return t of the loop: workers load beside the step, the process itself before it."""
        return max(step_s, input_s) if self.workers else step_s + input_s

    @property
    def free_cores(self) -> int:
        """Cores that are left for data workers."""
        return max(0, self.cores - (1 if self.on_gpu else self.threads))


@dataclass(frozen=True)
class Advice:
    """One change and what it would give.

    Attributes:
        text: What to change, in words.
        options: The same for the command line, where there is an option.
        images_per_s: Rate over all processes after it; ``None`` where nothing tells it.
    """

    text: str
    options: str = ""
    images_per_s: float | None = None


@dataclass(frozen=True)
class Verdict:
    """What the run is bound by.

    Attributes:
        bound: ``input``, ``step`` or ``communication``.
        reason: Why, in a sentence.
        advice: What would change it; the first gives most.
    """

    bound: str
    reason: str
    advice: list[Advice]


def judge(measured: Measured) -> Verdict:
    """Tell what bounds a run: what the loop waits for that the step alone does not take."""
    waiting = max(0.0, measured.both_s - measured.step_s) / measured.both_s
    if waiting > _WORTH:
        reason = (
            f"{waiting:.0%} of the time the step waits for images: the input alone gives "
            f"{measured.rate(measured.input_s):.1f} images/s, the step alone could take "
            f"{measured.rate(measured.step_s):.1f}"
        )
        return Verdict("input", reason, _sorted(_more_input(measured)))
    shared = measured.exchange_s / measured.step_s
    if shared > _WORTH:
        reason = (
            f"{shared:.0%} of a step goes to the exchange of gradients between the "
            f"{measured.processes} processes; without it the step would take "
            f"{measured.rate(measured.step_s - measured.exchange_s):.1f} images/s"
        )
        return Verdict("communication", reason, _sorted(_less_exchange(measured)))
    reason = (
        f"the input could give {measured.rate(measured.input_s):.1f} images/s, the step takes "
        f"{measured.rate(measured.step_s):.1f}"
    )
    if measured.half_step_s is not None:
        reason += f"; {measured.fixed_s / measured.step_s:.0%} of it is the same for any batch"
    return Verdict("step", reason, _sorted(_faster_step(measured)))


def _more_input(measured: Measured) -> list[Advice]:
    workers, batch = measured.workers, measured.batch
    wall_s = max(measured.image_wall_s, measured.image_s)
    wanted = max(1, math.ceil(_SPARE * batch * wall_s / measured.step_s))
    # Workers that wait for the disk need no core meanwhile.
    most = int(measured.free_cores * wall_s / max(measured.image_s, 1e-9))
    many = min(wanted, most)
    advice = []
    if many > workers:
        # From what the workers give now; without any, from what an image takes.
        input_s = measured.input_s * workers / many if workers else batch * wall_s / many
        options = f"train_dataloader.num_workers={many}"
        if not workers:
            options += " train_dataloader.persistent_workers=True"
        text = f"load with {many} worker{'s' if many > 1 else ''} a process instead of {workers}"
        rate = measured.rate(max(input_s, measured.step_s))
        advice.append(Advice(text, f"--cfg-options {options}", rate))
    else:
        advice.append(
            Advice(
                f"more workers would not help, {measured.free_cores} of {measured.cores} cores a "
                "process are free for them: use a machine with more cores for each process"
            )
        )
    if wall_s > _WAITS * measured.image_s:
        advice.append(
            Advice(
                f"the files come slowly: {1 - measured.image_s / wall_s:.0%} of the "
                f"{wall_s * 1e3:.1f} ms that an image takes is waiting; copy them to a local disk"
            )
        )
    elif wanted > most:
        advice.append(
            Advice(
                f"make an image cheaper, it costs a core {measured.image_s * 1e3:.1f} ms: fewer "
                "or smaller views; files that are far larger than the views resized once, before "
                "the run, and kept as JPEG"
            )
        )
    return advice


def _less_exchange(measured: Measured) -> list[Advice]:
    accumulation = measured.accumulation
    twice = measured.pass_s(measured.step_s - measured.exchange_s / 2, measured.input_s)
    return [
        *_larger_batch(measured),
        Advice(
            f"exchange in one of {2 * accumulation} passes: the same batch a process, a global "
            "batch twice as large",
            f"--cfg-options accumulation={2 * accumulation}",
            measured.rate(twice),
        ),
        Advice(
            "use a faster link between the processes: fewer machines with more GPUs each, or "
            "NCCL over the fast network (NCCL_SOCKET_IFNAME)"
        ),
    ]


def _faster_step(measured: Measured) -> list[Advice]:
    advice = []
    if measured.amp_step_s is not None and measured.amp_step_s < measured.step_s * (1 - _WORTH):
        seconds = measured.pass_s(measured.amp_step_s, measured.input_s)
        advice.append(Advice("train in bfloat16", "--amp", measured.rate(seconds)))
    if measured.fixed_s > _WORTH * measured.step_s:
        advice += _larger_batch(measured)
    if not advice:
        where = "a faster device, or more of them" if measured.on_gpu else "a GPU, or more cores"
        advice.append(
            Advice(
                f"no setting of the run gives much more: {where}, or a cheaper step (a smaller "
                "model, fewer or smaller views, a higher mask ratio)"
            )
        )
    return advice


def _larger_batch(measured: Measured) -> list[Advice]:
    if measured.memory is not None and measured.memory > 0.5:
        return []  # twice the batch would not fit
    batch, accumulation = 2 * measured.batch, measured.accumulation
    step_s = 2 * measured.step_s - measured.fixed_s
    seconds = measured.pass_s(step_s, 2 * measured.input_s)
    if accumulation % 2 == 0:
        text = f"{batch} images a process in one pass, and half as many passes a step"
        options = f"accumulation={accumulation // 2}"
    else:
        text = f"{batch} images a process in one pass; the global batch grows with it"
        options = f"global_batch_size={batch * measured.processes * accumulation}"
    return [Advice(text, f"--cfg-options {options}", measured.rate(seconds, batch))]


def _sorted(advice: list[Advice]) -> list[Advice]:
    return sorted(advice, key=lambda one: -(one.images_per_s or 0.0))
