from msn_mm.engine.hooks.class_count_hook import ClassCountHook
from msn_mm.engine.hooks.collapse_monitor_hook import CollapseMonitorHook
from msn_mm.engine.hooks.ema_hook import EMAHook
from msn_mm.engine.hooks.non_finite_steps_hook import NonFiniteStepsHook
from msn_mm.engine.hooks.safe_checkpoint_hook import SafeCheckpointHook
from msn_mm.engine.hooks.starting_weights_hook import StartingWeightsHook
from msn_mm.engine.hooks.stop_signal_hook import StopSignalHook
from msn_mm.engine.hooks.throughput_hook import ThroughputHook
from msn_mm.engine.hooks.unreadable_images_hook import UnreadableImagesHook

__all__ = [
    "ClassCountHook",
    "CollapseMonitorHook",
    "EMAHook",
    "NonFiniteStepsHook",
    "SafeCheckpointHook",
    "StartingWeightsHook",
    "StopSignalHook",
    "ThroughputHook",
    "UnreadableImagesHook",
]
