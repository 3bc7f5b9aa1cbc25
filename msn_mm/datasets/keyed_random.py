"""Other people's augmentations, which draw from global generators, made to draw from a key."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from msn_mm.datasets.keys import AUGMENTATION_STREAM, SampleKey


@contextmanager
def keyed_random(key: SampleKey, view: int = 0) -> Iterator[None]:
    """Seed the generators of ``random``, ``numpy.random`` and torch (CPU) from a key.

    All three are what they were before, afterwards.

    Args:
        key: Where the seeds come from, and nothing else: neither worker nor
            process nor what was drawn before.
        view: Number of the view.
    """
    words = key.generator(view, AUGMENTATION_STREAM).integers(0, 2**32, 4, dtype=np.uint64)
    python, torch_state = random.getstate(), torch.get_rng_state()
    numpy = np.random.get_state()  # noqa: NPY002  (the generator that others draw from)
    try:
        random.seed(int(words[0] << np.uint64(32) | words[1]))
        np.random.seed(int(words[2]))  # noqa: NPY002
        # torch.manual_seed would seed every GPU as well, and start CUDA in a worker.
        torch.default_generator.manual_seed(int(words[3]))
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(torch_state)
