"""Printing an error: its sentence and, where it helps, the page of the docs to read."""

import os
import re
import sys
from pathlib import Path

from lit_dqn.errors import one_line, tell_torchrun

_HERE = Path(__file__).parents[2]
DOCS = next((folder for folder in (_HERE / "docs", _HERE.parents[1] / "docs") if folder.is_dir()), None)
"""The folder of the pages: inside the package of a wheel, at the top of a clone."""

PAGES = {
    "guide/configs.md": ("config", "extends"),
    "guide/demonstrations.md": ("prefill",),
    "guide/environments.md": ("env_id", "env_kwargs", "wrappers"),
    "guide/masks.md": ("action_mask",),
    "guide/parts.md": ("network", "objective", "policy", "eval_policy", "sampler", "head"),
    "guide/resume.md": ("ckpt_path", "init_from", "resume_env"),
    "guide/scaling.md": ("shards", "num_envs", "env_processes", "play_ahead", "replay_device"),
    "guide/sharing.md": ("push", "pull"),
    "guide/watching.md": ("logger", "maze_view", "episode_view", "trajectories"),
    "performance.md": ("update",),
    "studies.md": ("study", "report", "agents", "tasks", "overrides", "seeds", "scales", "at_once", "test_episodes"),
    "tuning.md": ("tune", "space", "configs", "trials", "target", "prune", "storage"),
}
"""Pages, and the keys with which sentences about their topics begin."""

_PAGE_OF = {key: page for page, keys in PAGES.items() for key in keys}

_KEYS = re.compile(r"(?:[^:\s][^:]{0,60}: ){1,2}")
"""The beginning of a sentence: a key, or, in a study, an agent and a key."""


def page_of(sentence: str) -> str | None:
    """The page about the topic of a sentence, as a path below `docs`; None if the sentence is enough.

    Args:
        sentence: such as `data.env_id: there is no environment Pole-v1; ...`.

    """
    begins = _KEYS.match(sentence)
    if begins is None or "did you mean" in sentence:
        return None
    keys = [part for words in begins[0].split(": ") if re.fullmatch(r"[\w.\[\]+]+", words) for part in words.split(".")]
    return next((_PAGE_OF[key] for key in reversed(keys) if key in _PAGE_OF), None)


def say_error(error: Exception) -> None:
    """Print an error in one line on the standard error, with its page; torchrun repeats it."""
    sentence = one_line(error)
    page = page_of(sentence)
    more = f" See {_shown(DOCS / page)}" if page is not None and DOCS is not None else ""
    print(f"error: {sentence}{more}", file=sys.stderr)
    tell_torchrun(sentence)


def _shown(path: Path) -> str:
    """The shortest form of a path from the working folder."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
