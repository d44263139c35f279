"""The model card of an agent, made from the data of its run."""

import json
from typing import Any

import yaml

from lit_dqn.commands.inputs import PROGRAM
from lit_dqn.commands.sharing.bundle import CURVE, Agent
from lit_dqn.saving.layout import CONFIG, RESULTS


def card(agent: Agent, repo_id: str, curve: bool) -> str:
    """The text of `README.md`: metadata for hubs, result and protocol, how to play it, and its config.

    Args:
        agent: the agent.
        repo_id: of its repository.
        curve: whether there is a picture of its learning curve.

    """
    env_id, made = agent.settings["data"]["env_id"], _name(agent.settings["model"])
    folder = repo_id.rpartition("/")[2]
    head: dict[str, Any] = {
        "library_name": "lit_dqn",
        "pipeline_tag": "reinforcement-learning",
        "tags": ["reinforcement-learning", "deep-reinforcement-learning", "lit_dqn", made, env_id],
    }
    lines = [f"# {made} on {env_id}", "", f"Trained by lit_dqn for {agent.env_step:,} env steps.", ""]
    if agent.result is None:
        lines += ["It was not tested before it was put here.", ""]
    else:
        score = _score(agent.result["return"])
        head["model-index"] = [_index(made, env_id, score)]
        lines += [
            f"Mean return over {len(agent.result['episodes']):,} episodes that were not used to choose it: **{score}** "
            f"(mean and its standard error; `{RESULTS}` has each).",
            "",
            "| evaluation protocol | |",
            "|---|---|",
            *(f"| {key} | {_cell(value)} |" for key, value in agent.result["protocol"].items()),
            "",
        ]
    lines += [f"![Steps and return of each episode]({CURVE})", ""] if curve else []
    lines += [
        "## Play it",
        "",
        "```sh",
        f"{PROGRAM} pull {repo_id}",
        f"{PROGRAM} test --config {folder}/{CONFIG} --model.init_from {folder}/model.safetensors",
        "```",
        "",
        "Weights, config and this card are plain files: nothing in them is run, and `pull` refuses a config that names "
        "other code than lit_dqn's, torch's and Gymnasium's.",
        "",
        "## Config",
        "",
        "```yaml",
        yaml.safe_dump(agent.settings, sort_keys=False).rstrip(),
        "```",
        "",
    ]
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n" + "\n".join(lines)


def _name(model: dict[str, Any]) -> str:
    """The name of an agent: its objective if that can be chosen, otherwise its class."""
    objective = model["init_args"].get("objective")
    path = objective["class_path"] if isinstance(objective, dict) else model["class_path"]
    return str(path).rpartition(".")[2]


def _score(of_return: dict[str, Any]) -> str:
    error = of_return["standard_error"]
    return f"{of_return['mean']:.2f}" + ("" if error is None else f" ± {error:.2f}")


def _index(made: str, env_id: str, score: str) -> dict[str, Any]:
    return {
        "name": made,
        "results": [
            {
                "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
                "dataset": {"name": env_id, "type": env_id},
                "metrics": [{"type": "mean_reward", "value": score, "name": "mean_reward", "verified": False}],
            }
        ],
    }


def _cell(value: Any) -> str:
    return (value if isinstance(value, str) else json.dumps(value)).replace("|", "\\|")
