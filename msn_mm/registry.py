"""Child registries of msn_mm (scope ``msn_mm``).

Every registry is a child of mmpretrain's registry of the same name, which is
itself a child of MMEngine's, so a config names any component of the three
libraries without a prefix. The first look-up of a kind of component imports
every module below the packages that hold such components, so a new component
is a new file and nothing else: no list names it, and nobody has to import a
module for its side effect.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import walk_packages
from typing import Any

from mmengine.registry import Registry
from mmpretrain import registry as _parents

from msn_mm.convert import runner_loading

SCOPE = "msn_mm"

# Whatever MMEngine loads for a component that is built here, it loads as data.
runner_loading.register()

_ENGINE = [f"msn_mm.engine.{part}" for part in ("hooks", "loops", "optim", "schedulers")]
_MODELS = ["msn_mm.models", "msn_mm.diffusion.rcdm"]
_DATASETS = ["msn_mm.datasets"]
_VISUALIZERS = ["msn_mm.visualization.lazy_visualizer"]
_METRIC_NAMES = ("few_labels_metric", "lowshot_metric", "linear_metric", "top_accuracy")
_EVALUATION = [f"msn_mm.evaluation.{name}" for name in _METRIC_NAMES]


class _OwnRegistry(Registry):
    """A registry that imports all modules below its locations, not these alone."""

    def import_from_location(self) -> None:
        if not self._imported:
            for location in self._locations:
                _import_below(location)
        super().import_from_location()


class _ChildRegistry(_OwnRegistry):
    """A registry that imports mmpretrain's package only when a name is not found without it.

    MMEngine imports the ``locations`` of the registry that was asked, never
    those of its parents, and importing all of mmpretrain takes seconds that
    most configs have no use for.
    """

    def get(self, key: str) -> Any:
        found = super().get(key)
        if found is None and self.parent is not None:
            for location in self.parent._locations:
                import_module(location)
            found = super().get(key)
        return found


def _import_below(name: str) -> None:
    package = import_module(name)
    for found in walk_packages(getattr(package, "__path__", []), f"{name}."):
        import_module(found.name)


def _child(name: str, parent: Registry, locations: list[str]) -> Registry:
    return _ChildRegistry(name, parent=parent, scope=SCOPE, locations=locations)


RUNNERS = _child("runner", _parents.RUNNERS, _ENGINE)
RUNNER_CONSTRUCTORS = _child("runner constructor", _parents.RUNNER_CONSTRUCTORS, _ENGINE)
LOOPS = _child("loop", _parents.LOOPS, _ENGINE)
HOOKS = _child("hook", _parents.HOOKS, _ENGINE)
LOG_PROCESSORS = _child("log processor", _parents.LOG_PROCESSORS, _ENGINE)
OPTIMIZERS = _child("optimizer", _parents.OPTIMIZERS, _ENGINE)
OPTIM_WRAPPERS = _child("optimizer_wrapper", _parents.OPTIM_WRAPPERS, _ENGINE)
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    "optimizer wrapper constructor", _parents.OPTIM_WRAPPER_CONSTRUCTORS, _ENGINE
)
PARAM_SCHEDULERS = _child("parameter scheduler", _parents.PARAM_SCHEDULERS, _ENGINE)
DATASETS = _child("dataset", _parents.DATASETS, _DATASETS)
DATA_SAMPLERS = _child("data sampler", _parents.DATA_SAMPLERS, _DATASETS)
TRANSFORMS = _child("transform", _parents.TRANSFORMS, _DATASETS)
MODELS = _child("model", _parents.MODELS, _MODELS)
MODEL_WRAPPERS = _child("model_wrapper", _parents.MODEL_WRAPPERS, _MODELS)
WEIGHT_INITIALIZERS = _child("weight initializer", _parents.WEIGHT_INITIALIZERS, _MODELS)
BATCH_AUGMENTS = _child("batch augment", _parents.BATCH_AUGMENTS, _MODELS)
TASK_UTILS = _child("task util", _parents.TASK_UTILS, _MODELS)
TOKENIZER = _child("tokenizer", _parents.TOKENIZER, _MODELS)
METRICS = _child("metric", _parents.METRICS, _EVALUATION)
EVALUATORS = _child("evaluator", _parents.EVALUATORS, _EVALUATION)
VISUALIZERS = _child("visualizer", _parents.VISUALIZERS, _VISUALIZERS)
VISBACKENDS = _child("vis_backend", _parents.VISBACKENDS, [])

# A view operation draws its few random numbers in the data worker and applies
# them to a batch of views on the model's device. Other libraries have no such
# notion, so this registry has no parent.
VIEW_OPS = _OwnRegistry("view operation", scope=SCOPE, locations=["msn_mm.datasets.view_ops"])
