"""`python -m lit_dqn push RUN REPO_ID` and `python -m lit_dqn pull REPO_ID`: sharing agents on a Hugging Face hub."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from lit_dqn.commands.inputs import PROGRAM, say_error
from lit_dqn.errors import ConfigError, TrainingError


def parser_of(verb: str) -> argparse.ArgumentParser:
    """The parser of the words after `push` or `pull`."""
    if verb == "push":
        parser = argparse.ArgumentParser(
            prog=f"{PROGRAM} push",
            description="Put the agent of a run onto a Hugging Face hub: weights, config, test result, model card.",
        )
        parser.add_argument("run", metavar="RUN", type=Path, help="a run's folder, for its best agent, or a .ckpt file")
        parser.add_argument("repo_id", metavar="REPO_ID", help="such as me/cartpole-dqn; made if it is not there")
        parser.add_argument("--private", action="store_true", help="make it for your eyes only")
        return parser
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} pull", description="Fetch an agent that push has put onto a Hugging Face hub, and check it."
    )
    parser.add_argument("repo_id", metavar="REPO_ID", help="such as me/cartpole-dqn")
    parser.add_argument("--folder", type=Path, help="where it goes, a new folder (default: the last part of REPO_ID)")
    parser.add_argument("--revision", help="a branch, tag or commit (default: the newest)")
    return parser


def main(verb: str, words: Sequence[str]) -> int:
    """Run the verb; returns 0, or 2 after an error in one sentence.

    Args:
        verb: `push` or `pull`.
        words: the words after it.

    """
    given = parser_of(verb).parse_args(words)
    from lit_dqn.commands.sharing.hub import pull, push  # torch takes seconds to import

    try:
        if verb == "push":
            print(push(given.run, given.repo_id, private=given.private))
        else:
            folder = given.folder or Path(given.repo_id.rpartition("/")[2])
            pull(given.repo_id, folder, revision=given.revision)
            print(
                f"{folder}: play it with {PROGRAM} test --config {folder}/config.yaml --model.init_from "
                f"{folder}/model.safetensors"
            )
    except (ConfigError, TrainingError) as error:
        say_error(error)
        return 2
    return 0
