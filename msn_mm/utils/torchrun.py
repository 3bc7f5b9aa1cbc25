"""torchrun that ends as its processes end: a user's mistake stays one line.

torchrun answers every failed process with a report and a traceback of its own.
When the processes ended with the status of a user's mistake they have told it
already, so this passes the status on in silence.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import get_args_parser, run

from msn_mm.utils.cli import INTERRUPTED_STATUS, USER_ERROR_STATUS

_TOLD = (USER_ERROR_STATUS, INTERRUPTED_STATUS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run torchrun with its own arguments; return the first failed process's status."""
    args = get_args_parser().parse_args(argv)
    # Which process failed with which status is told below when it matters.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        run(args)
    except ChildFailedError as error:
        failures = [failure.exitcode for failure in error.failures.values()]
        told = [status for status in failures if status in _TOLD]
        if told:
            return told[0]
        print(error.format_msg(), file=sys.stderr)
        return next((status for status in failures if status > 0), 1)
    except SignalException as error:
        return 128 + int(error.sigval)
    except KeyboardInterrupt:
        return INTERRUPTED_STATUS
    return 0


if __name__ == "__main__":
    sys.exit(main())
