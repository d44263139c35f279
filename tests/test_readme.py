"""What the README tells people to type, works as typed (but for less time)."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest

from test_cli import run, tiny

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.split("#")[0].strip()
]


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_of_lit_dqn_runs_in_the_order_of_the_page(project, monkeypatch, capsys):
    monkeypatch.setattr("lit_dqn.plan.WARM_UP_SECONDS", 0.1)
    monkeypatch.setattr("lit_dqn.plan.TRIAL_SECONDS", 0.2)
    commands = [shlex.split(line) for line in COMMANDS if line.startswith("python -m lit_dqn ")]
    assert len(commands) >= 7
    for number, words in enumerate(commands):
        subcommand, *arguments = words[3:]
        # Every run ends a little after the one that it goes on from.
        limit = {"stop.max_env_steps": 80 + 20 * number, "stop.max_episodes": 1000}
        assert run(monkeypatch, subcommand, *arguments, *tiny(**limit)) == 0, " ".join(words)
    for line in [line for line in COMMANDS if line.startswith("python -m lit_dqn.plots")]:
        (project / "lightning_logs/maze_fast/version_0/episodes.csv").write_text(
            "episode,env_step,env,return,length,terminated,seconds\n1,20,0,-20.0,20,1,0.5\n"
        )
        words = shlex.split(line)
        subprocess.run([sys.executable, *words[1:]], check=True, capture_output=True)

    in_python, snippet = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(in_python, {})
    assert (project / "episodes.png").exists()
    observation, _ = gymnasium.make("lit_dqn/Maze-v0").reset(seed=0)
    names = {"observation": observation}
    exec(snippet, names)
    assert names["action"] in range(4)


def test_every_make_target_of_the_page_exists_and_explains_itself():
    if shutil.which("make") is None:
        pytest.skip("no make here")
    listed = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    named = re.findall(r"make ([a-z-]+)", README + (ROOT / "CONTRIBUTING.md").read_text())
    for target in set(named) - {"sure"}:
        assert re.search(rf"make {target} +\w", listed), target


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))]
)
def test_every_link_to_a_file_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
        if "://" not in link:
            assert ((ROOT / page).parent / link).exists(), link
