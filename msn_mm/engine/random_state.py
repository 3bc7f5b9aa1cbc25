"""The state of every random generator of a process."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def random_state() -> dict[str, Any]:
    """Return the state of torch's generators (CPU, this process's GPU), Python's and NumPy's.

    Reading a state moves no generator. The content loads with ``weights_only=True``.
    """
    version, words, spare = random.getstate()
    kind, keys, place, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "python": {"version": version, "words": torch.tensor(words), "spare": spare},
        "numpy": {
            "kind": str(kind),
            "words": torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            "place": int(place),
            "has_gauss": int(has_gauss),
            "gauss": float(gauss),
        },
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Bring every generator to a state of :func:`random_state`; those it lacks stay as they are."""
    # A resume loads to the current device, and generators take states of the host.
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available() and state.get("cuda") is not None:
        torch.cuda.set_rng_state(state["cuda"].cpu())
    if python := state.get("python"):
        random.setstate((python["version"], tuple(python["words"].tolist()), python["spare"]))
    if numpy := state.get("numpy"):
        words = numpy["words"].cpu().numpy().astype(np.uint32)
        gauss = numpy["has_gauss"], numpy["gauss"]
        np.random.set_state((numpy["kind"], words, numpy["place"], *gauss))  # noqa: NPY002
