"""A config's text, formatted once."""

from __future__ import annotations

import copy
from collections import OrderedDict

from mmengine.config import Config

# Texts by what they are the texts of. The config that a run ends with may differ
# from the one it began with, so a few.
_TEXTS: OrderedDict[tuple[str, bool], str] = OrderedDict()
_MOST_TEXTS = 4


class FormattedOnce(Config):
    """A config that is formatted again only after it has changed.

    MMEngine asks for the text of a run's config five times before the first
    step, and formats it by yapf each time.
    """

    @property
    def pretty_text(self) -> str:
        """The config as Python code."""
        key = (repr(self._cfg_dict), self._format_python_code)
        text = _TEXTS.get(key)
        if text is None:
            text = _TEXTS[key] = super().pretty_text
            while len(_TEXTS) > _MOST_TEXTS:
                _TEXTS.popitem(last=False)
        return text


def formatted_once(cfg: Config) -> FormattedOnce:
    """Return a deep copy of a config that is formatted once."""
    copied = copy.deepcopy(cfg)
    object.__setattr__(copied, "__class__", FormattedOnce)
    return copied
