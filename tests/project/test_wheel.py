"""The wheel in an empty environment outside of the repository: it fits, studies, reports, tunes and lists.

`make wheel-test` installs the wheel with all that it needs, as a user does, and says by WHEEL_PYTHON where. Without it
the packages of this environment are lent to the other one, lit_dqn apart, so that only what builds the wheel is
downloaded.
"""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLAIN = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)],
        capture_output=True,
        text=True,
        env=PLAIN,
    )
    if built.returncode and "hatchling" in built.stderr:
        pytest.skip("hatchling, which builds the wheel, is not to be had: " + built.stderr.strip().splitlines()[-1])
    assert built.returncode == 0, built.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """Of an environment that has the wheel, and of everything else what this one has."""
    if "WHEEL_PYTHON" in os.environ:
        return Path(os.environ["WHEEL_PYTHON"])
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    zipfile.ZipFile(wheel).extractall(site)
    # They come behind its own; what .pth files there name, as an editable lit_dqn is, does not come.
    own = (ROOT, ROOT / "tests")
    lent = [path for path in map(Path, sys.path) if path not in own and not (path / "lit_dqn/__init__.py").exists()]
    (site / "lent.pth").write_text("\n".join(map(str, lent)))
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


def lit_dqn(python: Path, folder: Path, *words: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [python, "-m", "lit_dqn", *map(str, words)], cwd=folder, env=PLAIN, capture_output=True, text=True, timeout=600
    )


@pytest.mark.slow
def test_a_wheel_brings_configs_and_pages(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    configs = {path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("*.yaml")}
    assert {f"lit_dqn/{name}" for name in configs} == {name for name in names if name.endswith(".yaml")}
    assert "lit_dqn/docs/guide/resume.md" in names
    assert not [name for name in names if not name.startswith(("lit_dqn/", "lit_dqn-"))]


@pytest.mark.slow
def test_the_wheel_fits_studies_reports_and_lists(python, tmp_path):
    where = subprocess.run(
        [python, "-c", "import lit_dqn; print(lit_dqn.__file__)"],
        env=PLAIN,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert where.stdout.startswith(str(python.parents[1])), where
    listed = lit_dqn(python, tmp_path, "list", "configs").stdout
    assert {"cartpole", "atari/pong", "minatar/breakout"} <= {line.split()[0] for line in listed.splitlines()[1:]}
    small = ("--stop.max_env_steps=600", "--data.min_replay_size=200", "--trainer.enable_progress_bar=false")
    done = lit_dqn(python, tmp_path, "fit", "--config", "cartpole", "--config", "double", *small)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "lightning_logs/double-CartPole-v1/version_0/checkpoints/last.ckpt").exists()
    done = lit_dqn(python, tmp_path, "fit", "--config", "atari/pong_gpu", "--print_config")  # extends another one
    assert "env_id: ALE/Pong-v5" in done.stdout, done.stderr
    (tmp_path / "heads.yaml").write_text(
        "agents: {Plain: [cartpole], Double: [cartpole, double]}\nseeds: [0]\ntest_episodes: 2\n"
        "overrides: {stop.max_env_steps: 600, data.min_replay_size: 200}\n"
    )
    done = lit_dqn(python, tmp_path, "study", "heads.yaml")
    assert done.returncode == 0, done.stderr
    done = lit_dqn(python, tmp_path, "report", "studies/heads", "--output", "again")
    assert (done.returncode, done.stdout.strip()) == (0, str(Path("again/report.md"))), done.stderr
    (tmp_path / "search.yaml").write_text(
        "configs: [cartpole]\nspace: {data.n_step: [1, 3]}\nseeds: [100]\ntrials: 1\ntest_episodes: 2\n"
        "overrides: {stop.max_env_steps: 600, data.min_replay_size: 200}\n"
    )
    done = lit_dqn(python, tmp_path, "tune", "search.yaml")
    if "pip install 'lit-dqn[tune]'" not in done.stderr:
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "tuning/search/winner.yaml").is_file()
    done = lit_dqn(python, tmp_path, "fit", "--config", "cartpole", "--ckpt_path", "nowhere")
    assert done.returncode == 2
    page = Path(done.stderr.strip().rpartition(" See ")[2])
    assert page.is_file(), done.stderr
    assert python.parents[1] in page.parents


@pytest.mark.slow
def test_a_file_of_the_user_wins_over_a_config_of_the_wheel(python, tmp_path):
    (tmp_path / "cartpole").write_text("data: {env_id: Acrobot-v1}\nmodel: {network: lit_dqn.MLP}\n")
    done = lit_dqn(python, tmp_path, "fit", "--config", "cartpole", "--print_config")
    assert "env_id: Acrobot-v1" in done.stdout, done.stderr
