"""One run of a study, in a separate process, from its present state to its test.

    python -m lit_dqn.commands.studies.worker studies/cartpole/runs/DQN/CartPole-v1/seed_0 100 last

It does `python -m lit_dqn fit --config <folder>/config.yaml`, with `--ckpt_path last` if the run has begun, and then
`test`. It ends when its standard input is closed, which the study holds open: so no run outlives the study.
"""

import os
import signal
import sys
import threading
from pathlib import Path

from lit_dqn.commands.studies.records import is_tested, versions_of
from lit_dqn.saving import durable
from lit_dqn.saving.layout import CHECKPOINTS, CKPT_SUFFIX, CONFIG, LOCK
from lit_dqn.saving.lock import Lock


def main(folder: Path, test_episodes: int, checkpoint: str) -> None:
    """Fit, or resume, then test.

    Args:
        folder: of the run, with its `config.yaml`.
        test_episodes: number of test episodes.
        checkpoint: `last` or `best`.

    Raises:
        SystemExit: with the exit code of the verb that failed.

    """
    threading.Thread(target=_end_with_the_study, name="study", daemon=True).start()
    lock = Lock(folder / LOCK)
    lock.wait()  # a run of a killed study may still be writing its last checkpoint
    try:
        _bring_to_its_test(folder, test_episodes, checkpoint)
    finally:
        lock.release()


def _bring_to_its_test(folder: Path, test_episodes: int, checkpoint: str) -> None:
    if is_tested(folder, test_episodes):
        return
    config = f"--config={folder / CONFIG}"
    if has_begun(folder):
        _say_and_do("fit", config, "--ckpt_path=last")
    else:
        for version in versions_of(folder):  # killed before its first checkpoint
            durable.remove_tree(version)
        _say_and_do("fit", config)
    _say_and_do("test", config, f"--ckpt_path={checkpoint}", f"--data.eval_episodes={test_episodes}")


def has_begun(folder: Path) -> bool:
    """Whether there is a checkpoint to resume from."""
    return any(any((version / CHECKPOINTS).glob(f"*{CKPT_SUFFIX}")) for version in versions_of(folder))


def _say_and_do(*words: str) -> None:
    print("python -m lit_dqn", *words, flush=True)
    from lit_dqn.commands import cli  # torch and Lightning take seconds to import

    sys.argv = ["lit_dqn", *words]
    cli.main()


def _end_with_the_study() -> None:
    """Wait for the end of the standard input, then save and end."""
    # Not `sys.stdin`, whose lock this thread would hold while the interpreter exits.
    while os.read(0, 1):
        pass
    signal.raise_signal(signal.SIGTERM)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
