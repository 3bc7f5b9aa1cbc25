from msn_mm.engine.hooks.centring_hook import CentringHook
from msn_mm.engine.hooks.class_count_hook import ClassCountHook
from msn_mm.engine.hooks.collapse_monitor_hook import CollapseMonitorHook
from msn_mm.engine.hooks.ema_hook import EMAHook
from msn_mm.engine.hooks.frozen_layer_hook import FrozenLayerHook
from msn_mm.engine.hooks.non_finite_steps_hook import NonFiniteStepsHook
from msn_mm.engine.hooks.safe_checkpoint_hook import SafeCheckpointHook
from msn_mm.engine.hooks.starting_weights_hook import StartingWeightsHook
from msn_mm.engine.hooks.stop_signal_hook import StopSignalHook
from msn_mm.engine.hooks.target_temperature_hook import TargetTemperatureHook
from msn_mm.engine.hooks.throughput_hook import ThroughputHook
from msn_mm.engine.hooks.unreadable_images_hook import UnreadableImagesHook

__all__ = [
    "CentringHook",
    "ClassCountHook",
    "CollapseMonitorHook",
    "EMAHook",
    "FrozenLayerHook",
    "NonFiniteStepsHook",
    "SafeCheckpointHook",
    "StartingWeightsHook",
    "StopSignalHook",
    "TargetTemperatureHook",
    "ThroughputHook",
    "UnreadableImagesHook",
]
