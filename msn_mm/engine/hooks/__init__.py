from msn_mm.engine.hooks.collapse_monitor_hook import CollapseMonitorHook
from msn_mm.engine.hooks.ema_hook import EMAHook

__all__ = ["CollapseMonitorHook", "EMAHook"]
