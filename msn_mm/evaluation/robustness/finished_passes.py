"""The passes over images that are done: what a stopped run need not repeat."""

from __future__ import annotations

from msn_mm.evaluation.finished_work import FinishedWork, Record

Pass = Record


class FinishedPasses(FinishedWork):
    """The right answers of finished passes; see :class:`~msn_mm.evaluation.finished_work`."""

    parts = "passes"

    @staticmethod
    def is_whole(record: Record) -> bool:
        """Whether it holds two counts of which the first is a part of the second."""
        correct, images = record.get("correct"), record.get("images")
        return type(correct) is int and type(images) is int and 0 <= correct <= images > 0
