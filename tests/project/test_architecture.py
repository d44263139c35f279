"""The house: folders are floors, and a floor imports only those below it. Every import counts, those inside functions
and for type checkers, too.
"""

import ast
from pathlib import Path

import pytest

import lit_dqn

SOURCE = Path(lit_dqn.__file__).parent
PACKAGE = "lit_dqn"

FLOORS = {
    "words": {"numpy", "torch"},
    "saving": {"gymnasium", "jsonargparse", "lightning", "numpy", "safetensors", "torch", "yaml"},
    "learning": {"numpy", "torch"},
    "replay": {"numpy", "psutil", "torch"},
    "envs": {"ale_py", "cv2", "gymnasium", "minatar", "numpy"},
    "playing": {"gymnasium", "minari", "numpy", "ray", "torch"},
    "training": {"gymnasium", "lightning", "numpy", "torch"},
    "plots": {"cv2", "imageio", "matplotlib", "numpy"},
    "callbacks": {
        "IPython",
        "gymnasium",
        "imageio",
        "lightning",
        "matplotlib",
        "numpy",
        "rich",
        "tensorboard",
        "torch",
        "yaml",
    },
    "commands": {
        "argcomplete",
        "gymnasium",
        "huggingface_hub",
        "jsonargparse",
        "lightning",
        "matplotlib",
        "numpy",
        "onnxruntime",
        "optuna",
        "rich",
        "safetensors",
        "torch",
        "yaml",
    },
    "door": {"lightning", "matplotlib"},
}
"""From the ground up, each with the packages of others that it may use."""

FILES = {
    "words": {"branches", "types", "errors", "parts", "schedules", "exports", "worker", "ranks", "waiting"},
    "door": {"api", "__main__", "__init__"},
}
"""The floors that are files and no folder."""

STRANGERS = {("plots", "training")}
"""Floors that do not know each other, though one lies above the other."""

UPWARD = {("training/agent.py", "callbacks")}
"""What must look up: Lightning asks an agent which callbacks it wants."""

LIGHTNING_IN_SAVING = {"saving/io.py", "saving/loops.py"}

HEIGHT = {floor: height for height, floor in enumerate(FLOORS)}


def imports_of(file):
    """(line, dotted name) of everything that a file imports; `from a import b` gives a.b."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{prefix}.{alias.name}") for alias in node.names)


def floor_of_file(path):
    """The floor of a path below the package; None if it has none."""
    name = path.parts[0].removesuffix(".py")
    if len(path.parts) > 1:
        return name if name in HEIGHT else None
    return next((floor for floor, files in FILES.items() if name in files), None)


def floor_of_name(name):
    """The floor of a dotted name; public names belong to the door."""
    part = name.split(".")[1] if "." in name else "__init__"
    return part if part in HEIGHT else next((floor for floor, files in FILES.items() if part in files), "door")


def broken_rules(source):
    """One sentence for each import that breaks a rule."""
    edges = {}
    for file in sorted(source.rglob("*.py")):
        path = file.relative_to(source)
        floor = floor_of_file(path)
        if floor is None:
            yield f"{path} is on no floor; give it a place in FLOORS."
            continue
        for line, name in imports_of(file):
            where = f"{path}:{line} imports {name}"
            package = name.split(".")[0]
            if name.startswith("."):
                yield f"{where}: write the whole name."
            elif package == PACKAGE:
                other = floor_of_name(name)
                if HEIGHT[other] > HEIGHT[floor] and (path.as_posix(), other) not in UPWARD:
                    yield f"{where}: {floor} is below {other}, and a floor imports only lower floors."
                elif (floor, other) in STRANGERS:
                    yield f"{where}: {floor} and {other} do not know each other."
                elif other == floor:
                    edges.setdefault(module_of(path, source), set()).add(module_of_name(name, source))
            elif package == "lightning" and floor == "saving" and path.as_posix() not in LIGHTNING_IN_SAVING:
                yield f"{where}: of saving only {' and '.join(sorted(LIGHTNING_IN_SAVING))} know Lightning."
            elif package in EVERYTHING and package not in FLOORS[floor]:
                yield f"{where}: {floor} does without {package}."
    for module in edges:
        if (cycle := path_back(edges, module)) and module == min(cycle):
            yield f"{' -> '.join([*cycle, module])}: files import each other in a circle."


EVERYTHING = frozenset().union(*FLOORS.values())


def module_of(path, source):
    """The dotted name of a file, from the package on; a package's is its folder's."""
    parts = [PACKAGE, *path.with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def module_of_name(name, source):
    """The module in which a dotted name is looked up."""
    parts = name.split(".")[1:]
    is_module = (source.joinpath(*parts)).is_dir() or source.joinpath(*parts).with_suffix(".py").exists()
    return ".".join([PACKAGE, *(parts if is_module else parts[:-1])])


def path_back(edges, module):
    """The modules on a way from a module back to itself, or None."""
    ways, seen = [[module]], set()
    for way in ways:
        for other in sorted(edges.get(way[-1], ())):
            if other == module:
                return way
            if other not in seen:
                seen.add(other)
                ways.append([*way, other])
    return None


def test_every_import_follows_the_order_of_the_folders():
    broken = list(broken_rules(SOURCE))
    assert not broken, "\n".join(["", *broken])


def test_imports_were_read():
    imports = {name.split(".")[0] for file in SOURCE.rglob("*.py") for _, name in imports_of(file)}
    assert {"lightning", "torch", "numpy", PACKAGE} <= imports
    folders = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()}
    assert folders == FLOORS.keys() - FILES.keys()


def test_every_package_that_a_floor_may_use_it_uses():
    used = {floor: set() for floor in FLOORS}
    for file in SOURCE.rglob("*.py"):
        used[floor_of_file(file.relative_to(SOURCE))] |= {name.split(".")[0] for _, name in imports_of(file)}
    assert {floor: may - used[floor] for floor, may in FLOORS.items()} == {floor: set() for floor in FLOORS}


@pytest.mark.parametrize(
    ("path", "code", "rule"),
    [
        ("types.py", "import lit_dqn.replay.buffer", "words is below replay"),
        ("saving/trust.py", "from lit_dqn.learning.networks import MLP", "saving is below learning"),
        ("playing/policies.py", "from lit_dqn.training import dqn", "playing is below training"),
        ("replay/buffer.py", "from lit_dqn import make_env", "replay is below door"),
        ("training/data.py", "from lit_dqn.commands.cli import main", "training is below commands"),
        ("training/data.py", "def f():\n    from lit_dqn.callbacks import MazeView", "training is below callbacks"),
        ("plots/agents.py", "from lit_dqn.training.dqn import LitDQN", "plots and training do not know each other"),
        ("callbacks/a.py", "if TYPE_CHECKING:\n    import lit_dqn.commands.cli", "callbacks is below commands"),
        ("playing/collector.py", "import lightning.pytorch as pl", "playing does without lightning"),
        ("saving/find.py", "import lightning", "know Lightning"),
        ("envs/grid/world.py", "def f():\n    from torch import nn", "envs does without torch"),
        ("learning/losses.py", "import gymnasium", "learning does without gymnasium"),
        ("learning/networks.py", "from . import losses", "write the whole name"),
        ("utils.py", "", "on no floor"),
        ("tools/utils.py", "", "on no floor"),
    ],
)
def test_a_bad_import_is_named_with_its_rule(tmp_path, path, code, rule):
    file = tmp_path / path
    file.parent.mkdir(exist_ok=True, parents=True)
    file.write_text(code)
    (broken,) = broken_rules(tmp_path)
    assert rule in broken
    assert path in broken


def test_a_circle_is_named(tmp_path):
    (tmp_path / "playing").mkdir()
    for module, other in [("a", "b"), ("b", "c"), ("c", "a")]:
        (tmp_path / f"playing/{module}.py").write_text(f"from lit_dqn.playing.{other} import X")
    (broken,) = broken_rules(tmp_path)
    names = " -> ".join(f"lit_dqn.playing.{module}" for module in "abca")
    assert broken == f"{names}: files import each other in a circle."


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("playing/collector.py", "from lit_dqn.replay import ReplayBuffer\nimport lit_dqn.playing.policies"),
        ("training/dqn.py", "import lightning\nfrom lit_dqn.training.agent import LitAgent"),
        ("training/agent.py", "from lit_dqn.callbacks import TrainingStatistics"),
        ("commands/cli.py", "from lit_dqn.training.data import ReplayDataModule"),
        ("saving/io.py", "from lightning.fabric.plugins import CheckpointIO"),
        ("replay/buffer.py", "import numpy as np\nfrom lit_dqn.replay.samplers import Uniform"),
    ],
)
def test_a_good_import_is_let_through(tmp_path, path, code):
    file = tmp_path / path
    file.parent.mkdir(exist_ok=True)
    file.write_text(code)
    assert not list(broken_rules(tmp_path))
