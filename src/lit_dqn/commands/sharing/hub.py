"""Pushing to a Hugging Face hub and pulling from it, with the hub's package, which is an extra."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lit_dqn.commands.inputs import dump_yaml
from lit_dqn.commands.sharing.bundle import (
    CARD,
    CURVE,
    MAY_COME,
    NEEDED,
    WEIGHTS,
    Agent,
    agent_of,
    check_bundle,
)
from lit_dqn.commands.sharing.card import card
from lit_dqn.errors import ConfigError, one_line
from lit_dqn.plots.episodes import plot_episodes
from lit_dqn.saving import durable
from lit_dqn.saving.layout import CONFIG, RESULTS

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def push(run: Path, repo_id: str, *, private: bool = False) -> str:
    """Push an agent to the hub, in one commit.

    Args:
        run: its folder, or a `.ckpt` file.
        repo_id: `owner/name`; created if it does not exist.
        private: whether a new repository is visible only to its owner.

    Returns:
        The URL of the commit.

    Raises:
        ConfigError: if there is no such agent, the extra is not installed, or the hub refuses it.

    """
    api = _api("push")
    from huggingface_hub import CommitOperationAdd

    agent = agent_of(run)
    with tempfile.TemporaryDirectory() as folder:
        files = _write(agent, repo_id, Path(folder))
        operations = [CommitOperationAdd(path.name, path) for path in files]
        with _explained("push", repo_id):
            api.create_repo(repo_id, private=private, exist_ok=True)
            commit = api.create_commit(
                repo_id, operations, commit_message=f"An agent of lit_dqn at env step {agent.env_step:,}"
            )
    return str(commit.commit_url)


def _write(agent: Agent, repo_id: str, folder: Path) -> list[Path]:
    durable.replace_text(folder / CONFIG, dump_yaml(agent.settings))
    durable.replace_file(folder / WEIGHTS, [memoryview(agent.weights)])
    curve = agent.episodes is not None and _draw(agent.episodes.parent, folder / CURVE)
    durable.replace_text(folder / CARD, card(agent, repo_id, curve))
    if agent.result is not None:
        durable.replace_text(folder / RESULTS, json.dumps([agent.result], indent=1) + "\n")
    return sorted(folder.iterdir())


def _draw(run: Path, picture: Path) -> bool:
    try:
        plot_episodes([run], clock="env_step").savefig(picture, dpi=120)
    except ValueError:
        return False  # no episode has ended yet
    return True


def pull(repo_id: str, folder: Path, *, revision: str | None = None) -> None:
    """Pull an agent from the hub, check it, and only then create its folder.

    Args:
        repo_id: `owner/name`.
        folder: a new one.
        revision: a branch, tag or commit; None: the newest.

    Raises:
        ConfigError: if there is none, it is not an agent of lit_dqn or could run code, the extra is not installed, or
            the folder exists.

    """
    api = _api("pull")
    source, place = f"pull: {repo_id}", Path(os.path.abspath(folder))
    if os.path.lexists(place):
        raise ConfigError(f"pull: {folder} exists already; name another, --folder NAME.")
    try:
        above = next(parent for parent in place.parents if parent.is_dir())
        parts = Path(tempfile.mkdtemp(prefix=f".{place.name}_", dir=above))
    except OSError as error:
        raise ConfigError(f"pull: {folder} cannot be made ({error.strerror}); name another, --folder NAME.") from error
    try:
        with _explained("pull", repo_id):
            info = api.model_info(repo_id, revision=revision)
            there = {file.rfilename for file in info.siblings or []}
            if missing := set(NEEDED) - there:
                raise ConfigError(f"{source} has no {min(missing)}, so it is not an agent of lit_dqn; take another.")
            for name in (*NEEDED, *(name for name in MAY_COME if name in there)):
                api.hf_hub_download(repo_id, name, revision=info.sha, local_dir=parts / "from_hub")
        whole = parts / "checked"
        durable.make_folder(whole)
        for name in (*NEEDED, *MAY_COME):
            if (parts / "from_hub" / name).is_file():
                shutil.copyfile(parts / "from_hub" / name, whole / name)
        check_bundle(whole, source)
        durable.make_folder(place.parent)
        durable.move_folder(whole, place)
    except OSError as error:
        raise ConfigError(f"pull: {folder} cannot be made ({error.strerror}); name another, --folder NAME.") from error
    finally:
        shutil.rmtree(parts, ignore_errors=True)


def _api(verb: str) -> "HfApi":
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.utils import disable_progress_bars
    except ImportError as error:
        raise ConfigError(
            f"{verb}: the package huggingface_hub is not installed; install the extra hub: pip install 'lit-dqn[hub]', "
            "in a clone pip install -e '.[hub]'."
        ) from error
    disable_progress_bars()
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="lit_dqn")


@contextmanager
def _explained(verb: str, repo_id: str) -> Iterator[None]:
    """Restate the hub's refusals in one sentence."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    try:
        yield
    except ConfigError:
        raise
    except HFValidationError as error:
        raise ConfigError(f"{verb}: {repo_id} is not a name of a repository; give owner/name.") from error
    except LocalTokenNotFoundError as error:
        raise ConfigError(f"{verb}: nobody is logged in to the hub; type hf auth login, or set HF_TOKEN.") from error
    except HfHubHTTPError as error:
        code = error.response.status_code
        remedy = {
            401: "type hf auth login, or set HF_TOKEN",
            403: "take a token that may write there",
            404: "give another one, or type hf auth login if it is private",
        }.get(code, "try again later")
        raise ConfigError(f"{verb}: the hub refuses {repo_id} ({code}: {one_line(error)}); {remedy}.") from error
    except Exception as error:  # network errors; their types depend on the version of huggingface_hub
        raise ConfigError(f"{verb}: the hub cannot be asked for {repo_id} ({one_line(error)}); try again.") from error
