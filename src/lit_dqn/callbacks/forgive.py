import functools
import logging
from collections.abc import Callable
from typing import Any

from lightning.pytorch.loggers import Logger

log = logging.getLogger("lit_dqn")

WRITING = ("log_metrics", "log_hyperparams", "log_graph", "save", "finalize")


def forgive(logger: Logger) -> None:
    """Let a run continue whose logger cannot write, as on a full disk: what it loses are points, not days of training.

    The first failure is a warning. Checkpoints have a rule of their own, `checkpoints.max_failed_saves`.
    """
    told = False

    def forgiving(write: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(write)
        def attempt(*args: Any, **kwargs: Any) -> Any:
            nonlocal told
            try:
                return write(*args, **kwargs)
            except (OSError, ValueError) as error:
                # TensorBoard's logger takes whatever goes wrong for a value that is no number.
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
