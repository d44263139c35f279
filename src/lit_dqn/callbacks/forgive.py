import functools
import logging
from collections.abc import Callable
from typing import Any

from lightning.pytorch.loggers import Logger

log = logging.getLogger("lit_dqn")

WRITING = ("log_metrics", "log_hyperparams", "log_graph", "save", "finalize")


def forgive(logger: Logger) -> None:
    """Let a run continue if its logger cannot write, for example on a full disk: it loses points, not days of training.

    The first failure is a warning. For checkpoints see `checkpoints.max_failed_saves`.
    """
    told = False

    def forgiving(write: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(write)
        def attempt(*args: Any, **kwargs: Any) -> Any:
            nonlocal told
            try:
                return write(*args, **kwargs)
            except (OSError, ValueError) as error:
                # TensorBoard's logger reports every error as a value that is not a number.
                cause = error if isinstance(error, OSError) else error.__cause__
                if not isinstance(cause, OSError):
                    raise
                if not told:
                    log.warning(
                        "%s cannot write its curves: %s. Training continues without them; a resume begins them again.",
                        type(logger).__name__,
                        cause,
                    )
                told = True

        return attempt

    for name in WRITING:
        if hasattr(logger, name):
            setattr(logger, name, forgiving(getattr(logger, name)))
