from tests.visualization.report.trained import trained

__all__ = ["trained"]
