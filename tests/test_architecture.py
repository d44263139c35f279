"""The house: who may import whom. Every import counts, those inside functions, too."""

import ast
from pathlib import Path

import pytest

import lit_dqn

SOURCE = Path(lit_dqn.__file__).parent
PACKAGE = "lit_dqn"
FLOORS = {
    "ground floor": {
        "errors",
        "types",
        "losses",
        "schedules",
        "specification",
        "durable",
        "lock",
        "random_state",
        "worker",
        "exports",
    },
    "first floor": {
        "networks",
        "learner",
        "loss_watch",
        "update_graph",
        "graphs",
        "asking",
        "policies",
        "objectives",
        "replay",
        "envs",
        "collector",
        "play_ahead",
        "evaluation",
        "frame_stack",
        "replay_dataset",
        "resimulation",
        "value_errors",
        "data_settings",
    },
    "second floor": {
        "agent",
        "dqn",
        "td",
        "actor_critic",
        "checkpoint_policy",
        "loading",
        "data",
        "checkpoint",
        "callbacks",
        "plots",
        "training_state",
        "export",
    },
    "door": {
        "api",
        "cli",
        "plan",
        "resume",
        "trainer_config",
        "trainer_settings",
        "inputs",
        "live_classes",
        "parser",
        "process",
        "report",
        "help",
        "__main__",
        "__init__",
    },
}
HEIGHT = {room: height for height, rooms in enumerate(FLOORS.values()) for room in rooms}
SECOND = list(FLOORS).index("second floor")
NEIGHBOURS = {("dqn", "agent"), ("td", "agent"), ("actor_critic", "agent"), ("loading", "agent")}
NEIGHBOURS |= {("agent", "checkpoint"), ("callbacks", "plots")}
NEIGHBOURS |= {("callbacks", "checkpoint")}  # when to save, and how
NEIGHBOURS |= {("agent", "callbacks")}  # those that a plain Trainer is not given
NEIGHBOURS |= {("agent", "training_state"), ("loading", "checkpoint")}
NEIGHBOURS |= {("loading", "dqn"), ("loading", "td"), ("loading", "actor_critic")}
NEIGHBOURS |= {("checkpoint_policy", "loading"), ("checkpoint_policy", "agent")}
"""Who may import whom on the second floor; all others meet at the trainer or the door."""


def imports_of(file):
    """(line, dotted name) of everything that a file imports; `from a import b` gives a.b."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{prefix}.{alias.name}") for alias in node.names)


def room_of(name, source):
    """The room that a dotted name belongs to; a name of the package itself belongs to `__init__`."""
    part = name.split(".")[1] if "." in name else "__init__"
    is_room = part in HEIGHT or (source / part).exists() or (source / f"{part}.py").exists()
    return part if is_room else "__init__"


def broken_rules(source):
    """One sentence for each import that breaks a rule."""
    edges = {}
    for file in sorted(source.rglob("*.py")):
        path = file.relative_to(source)
        room = path.parts[0].removesuffix(".py")
        if room not in HEIGHT:
            yield f"{path}: {room!r} is on no floor; give it a place in FLOORS."
            continue
        for line, name in imports_of(file):
            where = f"{path}:{line} imports {name}"
            if name.startswith("."):
                yield f"{where}: write the whole name."
            elif name.split(".")[0] in ("lightning", "pytorch_lightning", "lightning_fabric"):
                if HEIGHT[room] < SECOND:
                    yield f"{where}: Lightning is imported on the second floor and the door only."
            elif name.split(".")[0] == PACKAGE and (other := room_of(name, source)) != room:
                if other not in HEIGHT:
                    continue  # its own file is told of
                edges.setdefault(room, set()).add(other)
                if HEIGHT[other] > HEIGHT[room]:
                    yield f"{where}: a floor imports only lower floors."
                elif HEIGHT[room] == HEIGHT[other] == SECOND and (room, other) not in NEIGHBOURS:
                    yield f"{where}: on the second floor {room} must not import its neighbour {other}."
    for room in edges:
        if (cycle := path_back(edges, room)) and room == min(cycle):
            yield f"{' -> '.join([*cycle, room])}: rooms import each other in a circle."


def path_back(edges, room):
    """The rooms on a way from a room back to itself, or None."""
    ways, seen = [[room]], set()
    for way in ways:
        for other in sorted(edges.get(way[-1], ())):
            if other == room:
                return way
            if other not in seen:
                seen.add(other)
                ways.append([*way, other])
    return None


def test_every_import_keeps_the_rules_of_the_house():
    broken = list(broken_rules(SOURCE))
    assert not broken, "\n".join(["", *broken])


def test_the_house_was_read():
    imports = {name.split(".")[0] for file in SOURCE.rglob("*.py") for _, name in imports_of(file)}
    assert {"lightning", "torch", "numpy", PACKAGE} <= imports
    assert {"dqn.py", "data.py", "collector.py"} <= {file.name for file in SOURCE.iterdir()}


@pytest.mark.parametrize(
    ("path", "code", "rule"),
    [
        ("losses.py", "from lit_dqn.networks import MLP", "only lower floors"),
        ("types.py", "import lit_dqn.replay.buffer", "only lower floors"),
        ("policies.py", "from lit_dqn import dqn", "only lower floors"),
        ("replay/buffer.py", "from lit_dqn import make_env", "only lower floors"),
        ("data.py", "from lit_dqn.cli import main", "only lower floors"),
        ("collector.py", "import lightning.pytorch as pl", "Lightning is imported"),
        ("envs/grid.py", "def f():\n    from lightning import Trainer", "Lightning is imported"),
        ("data.py", "from lit_dqn.dqn import LitDQN", "data must not import its neighbour dqn"),
        ("dqn.py", "from lit_dqn.data import ReplayDataModule", "dqn must not import its neighbour data"),
        ("callbacks/maze_view.py", "from lit_dqn.dqn import LitDQN", "callbacks must not import its neighbour dqn"),
        (
            "callbacks/a.py",
            "if TYPE_CHECKING:\n    import lit_dqn.data",
            "callbacks must not import its neighbour data",
        ),
        ("checkpoint.py", "from lit_dqn.dqn import LitDQN", "checkpoint must not import its neighbour dqn"),
        ("networks.py", "from . import losses", "write the whole name"),
        ("utils.py", "", "on no floor"),
    ],
)
def test_a_bad_import_is_named_with_its_rule(tmp_path, path, code, rule):
    file = tmp_path / path
    file.parent.mkdir(exist_ok=True)
    file.write_text(code)
    (broken,) = broken_rules(tmp_path)
    assert rule in broken
    assert path in broken


def test_a_circle_is_named(tmp_path):
    for room, other in [("replay", "policies"), ("policies", "collector"), ("collector", "replay")]:
        (tmp_path / f"{room}.py").write_text(f"import lit_dqn.{other}")
    (broken,) = broken_rules(tmp_path)
    assert broken == "collector -> replay -> policies -> collector: rooms import each other in a circle."


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("collector.py", "from lit_dqn.replay import ReplayBuffer\nimport lit_dqn.policies"),
        ("dqn.py", "import lightning\nfrom lit_dqn.agent import LitAgent\nfrom lit_dqn.losses import huber"),
        ("cli.py", "from lit_dqn.data import ReplayDataModule\nfrom lit_dqn.dqn import LitDQN"),
        ("replay/buffer.py", "from lit_dqn.replay.samplers import Uniform"),
    ],
)
def test_a_good_import_is_let_through(tmp_path, path, code):
    file = tmp_path / path
    file.parent.mkdir(exist_ok=True)
    file.write_text(code)
    assert not list(broken_rules(tmp_path))
