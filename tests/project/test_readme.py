"""What the README and the guide's pages of commands tell people to type, works as typed (but for less time)."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest

from helpers import run, tiny

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS, RESUME, ATARI = ((ROOT / f"docs/guide/{page}.md").read_text() for page in ("commands", "resume", "atari"))


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def lines(*pages: str) -> list[str]:
    typed = [
        line.split("#")[0].strip() for page in pages for block in blocks(page, "sh") for line in block.splitlines()
    ]
    return [line for line in typed if line]


# In the order in which a user would type them: each resumed run has an earlier one.
VERBS = [line for line in lines(COMMANDS, README, RESUME, ATARI) if line.startswith("python -m lit_dqn ")]
PLOTS = [line for line in lines(COMMANDS) if line.startswith("python -m lit_dqn.plots ")]
ONE_ROLLOUT = {"data.capacity": 40, "data.env_steps_per_update": 40, "data.batch_size": 40, "data.min_replay_size": 0}
(IN_PYTHON,) = blocks(README, "python")
(WITH_AN_AGENT,) = blocks(RESUME, "python")


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def walk(monkeypatch, lines: list[str]) -> None:
    for number, line in enumerate(lines):
        subcommand, *arguments = shlex.split(line)[3:]
        # Every run ends a little after the one that it resumes.
        limit = {"stop.max_env_steps": 80 + 20 * number, "stop.max_episodes": 1000}
        fitting = ONE_ROLLOUT if "configs/gae.yaml" in line else {}
        assert run(monkeypatch, subcommand, *arguments, *tiny(**limit, **fitting)) == 0, line


def draw_what_is_drawn_of_a_run(project: Path) -> None:
    for line in PLOTS:
        (project / "lightning_logs/maze_fast/version_0/episodes.csv").write_text(
            "episode,env_step,env,return,length,terminated,seconds\n1,20,0,-20.0,20,1,0.5\n"
        )
        subprocess.run([sys.executable, *shlex.split(line)[1:]], check=True, capture_output=True)


def act_as_the_page_shows() -> None:
    observation, _ = gymnasium.make("lit_dqn/Maze-v0").reset(seed=0)
    names = {"observation": observation}
    exec(WITH_AN_AGENT, names)
    assert names["action"] == names["agent"].q_values(observation[None]).argmax()


def test_the_readme_is_short_and_has_one_picture():
    assert len(README.splitlines()) <= 90
    assert README.count("![") == 1


def test_the_guide_shows_the_readme_s_run_in_python():
    assert blocks(COMMANDS, "python") == [IN_PYTHON]


@pytest.mark.slow
def test_every_command_of_lit_dqn_is_understood(project, monkeypatch, capsys):
    assert len(VERBS) >= 20
    for line in dict.fromkeys(VERBS):
        subcommand, *arguments = shlex.split(line)[3:]
        assert run(monkeypatch, subcommand, "--print_config", *arguments) == 0, line


def test_the_first_run_of_the_page_is_trained_tested_watched_and_used(project, monkeypatch, capsys):
    of_the_maze = list(dict.fromkeys(line for line in VERBS if "configs/maze_fast.yaml" in line))
    short = [next(line for line in of_the_maze if line.split()[3] == verb) for verb in ("fit", "test", "predict")]
    walk(monkeypatch, short)
    act_as_the_page_shows()


@pytest.mark.slow
def test_every_command_of_lit_dqn_runs_in_the_order_of_the_page(project, monkeypatch, capsys):
    monkeypatch.setattr("lit_dqn.commands.plan.WARM_UP_SECONDS", 0.1)
    monkeypatch.setattr("lit_dqn.commands.plan.TRIAL_SECONDS", 0.2)
    walk(monkeypatch, VERBS)
    draw_what_is_drawn_of_a_run(project)
    exec(IN_PYTHON, {})
    assert (project / "episodes.png").exists()
    act_as_the_page_shows()


def test_every_make_target_of_the_page_exists_and_explains_itself():
    if shutil.which("make") is None:
        pytest.skip("no make here")
    listed = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    named = re.findall(r"make ([a-z-]+)", README + COMMANDS + ATARI + (ROOT / "CONTRIBUTING.md").read_text())
    for target in set(named) - {"sure"}:
        assert re.search(rf"make {target} +\w", listed), target
