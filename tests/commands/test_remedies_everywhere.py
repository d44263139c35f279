"""Each sentence that names a key to set is said by a case here, and what it tells to set is accepted as it is typed."""

import fnmatch
import shlex
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import yaml
from torch import nn

from lit_dqn import MLP, QLearning
from lit_dqn.commands.inputs import OTHERS, SECTIONS, Sources, first_look
from lit_dqn.commands.prepared import Prepared
from lit_dqn.errors import ConfigError
from lit_dqn.types import LossOutput
from remedies import KEY, alternatives, messages, says

HERE = Path(__file__).parents[1]
CARTPOLE = f"fit --config {HERE.parent / 'configs/cartpole.yaml'} "
IMPLICIT = CARTPOLE + "--model.network.head lit_dqn.ImplicitQuantileHead --model.objective ImplicitQuantileLearning "
DECAYING = CARTPOLE + "--model.weight_decay Linear --model.weight_decay.start 0.1 --model.weight_decay.end 0.2 "
DECAYING += "--model.weight_decay.env_steps 100 "
PQN = CARTPOLE + f"--config {HERE.parent / 'configs/pqn.yaml'} "
MAZE_TD = f"fit --config {HERE.parent / 'configs/maze_td.yaml'} "
ACTOR_CRITIC = f"fit --config {HERE.parent / 'configs/cartpole_actor_critic.yaml'} "
GAE = ACTOR_CRITIC + f"--config {HERE.parent / 'configs/gae.yaml'} "
T_MAZE = f"fit --config {HERE.parent / 'configs/t_maze.yaml'} "
PLAY = """--data.prefill '[{{"class_path":"lit_dqn.Play","init_args":{{"env_steps":{}}}}}]' """
DIALS = CARTPOLE + "--data.env_id dials:lit_dqn_tests/Dials-v0 "
CLIMBING = "--data.env_id dials:lit_dqn_tests/Climbing-v0 --data.combine_actions false "
FIXTURE = HERE / "fixtures/cartpole_0.1.0"
SETTINGS = {
    "data": {
        "env_id": "CartPole-v1",
        "num_envs": 8,
        "capacity": 100,
        "min_replay_size": 40,
        "env_steps_per_update": 4,
        "gradient_steps": 8,
        "batch_size": 8,
        "updates_per_epoch": 16,
        "n_step": 3,
    },
    "model": {"class_path": "lit_dqn.LitDQN", "init_args": {"network": {
        "class_path": "lit_dqn.MLP", "init_args": {"hidden_sizes": [8]}}}},
}  # fmt: skip
RESUMED = f"fit --config {shlex.quote(yaml.safe_dump(SETTINGS, default_flow_style=True, width=9999).strip())} "
RESUMED += f"--ckpt_path {FIXTURE} "

SPACES = {
    "dict": gymnasium.spaces.Dict({"a": gymnasium.spaces.Box(0, 1, (2,), np.float32)}),
    "texts": gymnasium.spaces.Dict({"said": gymnasium.spaces.Text(5), "one": gymnasium.spaces.Discrete(2)}),
    "sequence": gymnasium.spaces.Sequence(gymnasium.spaces.Discrete(2)),
    "number": gymnasium.spaces.Box(0, 1, (), np.float32),
    "nothing": gymnasium.spaces.Box(0, 1, (0,), np.float32),
    "rows": gymnasium.spaces.Box(0, 1, (20, 40), np.float32),
    "floats": gymnasium.spaces.Box(0, 1, (40, 44, 3), np.float32),
    "small": gymnasium.spaces.Box(0, 1, (1, 8, 8), np.float32),
    "masked": gymnasium.spaces.Dict(
        {
            "observation": gymnasium.spaces.Box(0, 1, (2,), np.float32),
            "action_mask": gymnasium.spaces.Box(1, 1, (2,), np.int8),
        }
    ),
}


class Shown(gymnasium.Env):
    """Shows something of a space, and ends at once."""

    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, space: str) -> None:
        self.observation_space = SPACES[space]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(0)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, True, False, {}


class Own(nn.Sequential):
    """A custom network, which has no head."""

    def __init__(self, observation_shape, num_outputs):
        super().__init__(nn.Linear(*observation_shape, num_outputs))


class Normed(MLP):
    """A network that takes means over a batch."""

    def __init__(self, observation_shape, num_outputs):
        super().__init__(observation_shape, num_outputs, (16,))
        self.insert(1, nn.BatchNorm1d(4))


class NoPriority(QLearning):
    """An objective as users wrote them before there were priorities."""

    def __call__(self, online, target, batch):
        return LossOutput(*super().__call__(online, target, batch)[:2])


gymnasium.register("lit_dqn_tests/Shown-v0", entry_point=Shown)

CASES = [
    CARTPOLE + "--data.batch_size 60000",
    CARTPOLE + "--data.min_replay_size 60000",
    CARTPOLE + "--data.min_replay_size 5",
    CARTPOLE + "--stop.max_env_steps 500",
    CARTPOLE + "--data.num_envs 60000",
    CARTPOLE + "--data.num_envs 24",
    CARTPOLE + "--data.num_envs 8 --data.sampler Latest --data.gradient_steps 1",
    CARTPOLE + "--data.sampler Latest",
    CARTPOLE + "--data.sampler Prioritized --model.objective test_remedies_everywhere.NoPriority",
    ACTOR_CRITIC + "--data.sampler Prioritized",
    CARTPOLE + "--data.sampler Rollout",
    CARTPOLE + "--data.shards 6",
    CARTPOLE + "--data.shards 16",
    CARTPOLE + "--data.shards 4 --data.num_envs 8 --data.batch_size 130",
    CARTPOLE + "--data.shards 4 --data.capacity 49999",
    CARTPOLE + "--data.shards 8 --data.n_step 6400",
    CARTPOLE + "--data.shards 2 --model.update compiled",
    CARTPOLE + "--trainer.strategy ddp --trainer.devices 2",
    CARTPOLE + "--trainer.strategy ddp --trainer.devices 6 --data.shards 8",
    CARTPOLE + "--data.shards 2 --model.network test_remedies_everywhere.Normed",
    PQN + "--data.shards 4",
    PQN + "--data.capacity 5000",
    PQN + "--data.min_replay_size 1000",
    PQN + "--data.play_ahead true",
    PQN + "--data.batch_size 100",
    PQN + "--data.gradient_steps 63 --data.updates_per_epoch 63",
    PQN + "--data.num_envs 2 --data.env_steps_per_update 128",
    PQN + "--data.replay_device cuda",
    PQN + "--data.sampler Prioritized",
    PQN + "--model.target_update_period 250",
    PQN + "--model.objective MunchausenQLearning",
    CARTPOLE + "--data.updates_per_epoch 7",
    CARTPOLE + "--data.n_step 60000",
    CARTPOLE + "--data.capacity 100000000000000",
    CARTPOLE + "--data.replay_device cuda --trainer.accelerator cpu",
    CARTPOLE + "--model.update graph --trainer.accelerator cpu",
    CARTPOLE + "--data.env_id lit_dqn_tests/Shown-v0 --data.env_kwargs.space dict",
    CARTPOLE + "--data.env_id lit_dqn_tests/Shown-v0 --data.env_kwargs.space rows --model.network NatureCNN",
    CARTPOLE + "--data.env_id lit_dqn_tests/Shown-v0 --data.env_kwargs.space small --model.network NatureCNN",
    CARTPOLE + "--data.env_id lit_dqn_tests/Shown-v0 --data.env_kwargs.space masked",
    CARTPOLE + "--data.action_mask true",
    CARTPOLE + "--data.env_id forbidding:lit_dqn_tests/Forbidding-v0",
    CARTPOLE + "--data.env_id ALE/Pong-v5 --data.action_mask true --model.network NatureCNN",
    CARTPOLE + "--model.network MLP",
    CARTPOLE + "--model.network NatureCNN",
    CARTPOLE + "--model.network torch.nn.Linear",
    CARTPOLE + "--model.optimizer torch.optim.LBFGS",
    CARTPOLE + "--model.learning_rate 0",
    CARTPOLE + "--model.weight_decay -1",
    CARTPOLE + "--model.optimizer torch.optim.Rprop --model.weight_decay 0.1",
    CARTPOLE + "--model.optimizer torch.optim.Rprop --model.decay_biases false",
    CARTPOLE + "--model.network test_remedies_everywhere.Own --model.resets ShrinkAndPerturb",
    DECAYING + "--model.update compiled",
    CARTPOLE + "--model.objective QuantileRegression",
    CARTPOLE + "--model.network test_remedies_everywhere.Own --model.objective QuantileRegression",
    CARTPOLE + "--model.objective CategoricalQLearning",
    CARTPOLE + "--model.network test_remedies_everywhere.Own --model.objective CategoricalQLearning",
    IMPLICIT + "--model.objective.double true --model.objective.munchausen Munchausen",
    CARTPOLE + "--model LitTD",
    CARTPOLE + "--model LitActorCritic",
    CARTPOLE + "--trainer.accelerator abacus",
    CARTPOLE + "--trainer.num_nodes 2",
    CARTPOLE + "--trainer.profiler foo",
    CARTPOLE + "--trainer.logger.sub_dir deep",
    MAZE_TD + "--data.policy Greedy",
    ACTOR_CRITIC + "--data.policy UniformRandom",
    ACTOR_CRITIC + "--data.sampler Uniform",
    ACTOR_CRITIC + "--data.play_ahead true",
    ACTOR_CRITIC + "--data.place RayActors --data.place.actors 1 --data.place.asynchronous true",
    ACTOR_CRITIC + "--model.network.noise 0.5",
    ACTOR_CRITIC + "--model.network.dueling true",
    ACTOR_CRITIC + "--model.network.dueling true --model.network.head lit_dqn.CategoricalHead",
    MAZE_TD + "--model.network.head lit_dqn.QuantileHead",
    GAE + "--data.gradient_steps 2 --data.capacity 256 --data.updates_per_epoch 2",
    ACTOR_CRITIC + "--data.batch_size 64 --data.env_steps_per_update 32",
    RESUMED + "--data.capacity 300",
    RESUMED + "--data.n_step 2",
    RESUMED + "--data.action_mask true",
    RESUMED + "--data.env_kwargs.sutton_barto_reward true",
    RESUMED + "--data.wrappers [gymnasium.wrappers.FlattenObservation]",
    RESUMED + "--data.env_id CartPole-v0",
    RESUMED.replace("fit", "validate", 1) + "--data.env_id CartPole-v0",
    RESUMED + "--model.network.hidden_sizes [9]",
    RESUMED + "--model.optimizer torch.optim.SGD",
    RESUMED + "--model.decay_biases false",
    RESUMED.replace("/cartpole_0.1.0", "/nowhere"),
    RESUMED.replace(str(FIXTURE), "last"),
    RESUMED.replace(str(FIXTURE), str(HERE / "data")),
    CARTPOLE + "--data.env_id lit_dqn_tests/Shown-v0 --data.env_kwargs.space dict --data.frame_stack 2",
    CARTPOLE + "--data.env_id lit_dqn_tests/Shown-v0 --data.env_kwargs.space texts",
    CARTPOLE + "--data.env_id lit_dqn_tests/Shown-v0 --data.env_kwargs.space sequence",
    CARTPOLE + "--data.env_id lit_dqn_tests/Shown-v0 --data.env_kwargs.space number",
    CARTPOLE + "--data.env_id lit_dqn_tests/Shown-v0 --data.env_kwargs.space nothing",
    CARTPOLE.replace("fit", "validate", 1) + "--trainer.limit_val_batches 0",
    CARTPOLE + "--model.network lit_dqn.PartsNetwork",
    CARTPOLE + "--data.env_id lit_dqn_tests/Shown-v0 --data.env_kwargs.space floats --model.network NatureCNN",
    CARTPOLE + "--data.env_id lit_dqn_tests/Shown-v0 --data.env_kwargs.space dict --model.network lit_dqn.PartsNetwork "
    "--model.network.encoders.b lit_dqn.MLP",
    CARTPOLE + "--data.sampler Sequences",
    CARTPOLE + "--model.network lit_dqn.RecurrentNetwork",
    CARTPOLE + PLAY.format(200000),
    CARTPOLE + PLAY.format(4),
    CARTPOLE + PLAY.format(2000) + "--data.env_steps_per_update 0 --data.min_replay_size 3000",
    PQN + PLAY.format(2000),
    CARTPOLE + "--data.env_steps_per_update 0",
    CARTPOLE + PLAY.format(2000) + "--data.env_steps_per_update 0 --data.play_ahead true",
    CARTPOLE + PLAY.format(2000) + "--data.env_steps_per_update 0 --data.place RayActors --data.place.actors 1",
    CARTPOLE + "--data.place RayActors --data.place.actors 0",
    CARTPOLE + "--data.place RayActors --data.place.actors 1 --data.env_processes true",
    CARTPOLE + "--data.place RayActors --data.place.actors 1 --data.shards 2",
    CARTPOLE + "--data.place RayActors --data.place.actors 1 --data.place.envs_per_player 3",
    CARTPOLE + "--data.place RayActors --data.place.actors 5 --data.place.envs_per_player 4",
    CARTPOLE + "--data.place RayActors --data.place.actors 1 --data.place.asynchronous true --data.play_ahead true",
    PQN + "--data.place RayActors --data.place.actors 1 --data.place.asynchronous true",
    CARTPOLE + "--replay_journal nowhere.csv",
    T_MAZE + "--model.update compiled",
    T_MAZE + "--data.place RayActors --data.place.actors 1",
    T_MAZE + "--data.capacity 50 --data.min_replay_size 40",
    T_MAZE + "--data.replay_device cuda",
    T_MAZE + """--data.prefill '[{"class_path":"lit_dqn.Play","init_args":{"env_steps":2000}}]'""",
    T_MAZE + "--data.sampler.overlap 20",
    T_MAZE + "--data.sampler.burn_in 11",
    T_MAZE + "--model.network.encoder lit_dqn.CNN",
    MAZE_TD + "--model.network lit_dqn.RecurrentNetwork",
    T_MAZE + "--model.network.encoder lit_dqn.RecurrentNetwork",
    CARTPOLE + "--model.network lit_dqn.QuantileNetwork --model.network.network lit_dqn.RecurrentNetwork",
    GAE + "--model.network.noise 0.5",
    DIALS + "--data.combine_actions true",
    DIALS + "--data.action_mask true",
    DIALS + "--data.policy Softmax",
    DIALS + "--model.objective MunchausenQLearning",
    CARTPOLE + "--data.combine_actions false",
    CARTPOLE + CLIMBING + "--data.action_mask true",
    ACTOR_CRITIC + CLIMBING,
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(words: list[str]) -> str | None:
    try:
        Prepared(words)
    except ConfigError as error:
        return str(error)
    return None


def typed(words: list[str], remedy: list[str], sentence: str) -> list[str]:
    """The command line after a user has done what a sentence tells."""
    if "--model.init_from" in remedy and "--ckpt_path" in words:
        place = words.index("--ckpt_path")  # "start a new run": it is not resumed
        words = [*words[:place], *words[place + 2 :]]
    if "instead: --config" in sentence:
        return [words[0], *remedy]
    return [*words, *remedy]


@cache
def said(line: str) -> tuple[tuple[str, str | None], ...]:
    """All sentences on the ways from a wrong command line, and where no way is left to go, what is still refused."""
    found, left = [], [(shlex.split(line), 0)]
    while left:
        words, depth = left.pop()
        sentence = refusal(words)
        if sentence is None:
            continue
        ways = alternatives(sentence)
        end = "nothing to type" if depth and not ways else "no end" if depth > 4 else None
        found.append((sentence, end))
        if end is None:
            left += [(typed(words, way, sentence), depth + 1) for way in ways]
    return tuple(found)


# Every eighth one; the others are slow tests, for each reads a whole command line several times.
@pytest.mark.parametrize(
    "line",
    [pytest.param(line, marks=[pytest.mark.slow] if number % 8 else []) for number, line in enumerate(CASES)],
    ids=lambda line: line.split(" --")[-1],
)
def test_what_a_sentence_tells_to_set_is_accepted(line):
    found = said(line)
    assert found
    assert [sentence for sentence, end in found if end] == [], found
    assert len({sentence for sentence, _ in found}) == len(found), found


def test_every_key_that_a_message_names_is_there():
    # `test_inputs.py` shows that these are the keys of the parser.
    sources, found = Sources(), list(messages())
    assert len(found) > 40
    for file, text in found:
        for key in KEY.findall(text):
            section, name, *_ = [*key.rstrip(".+").split("."), ""]
            known = sources.section(section).arguments if section in SECTIONS else OTHERS
            assert fnmatch.filter(known, name or section) or key in FOREIGN, f"{file}: --{key} of {text!r} is no key"


FOREIGN = ("key", "config", "plan", "force", "ntasks", "logdir", "help", "output", "folder")
"""Words with two hyphens that are for other programs or verbs, or stand for any key."""

NOT_SAID = (
    # No refusals: messages of valid runs.
    "* * --config FILE",
    "no --ckpt_path is given",
    "look at it with: tensorboard",
    "for each env has a process",
    "test --config",
    "equal to the network on %d observations",
    # Said when a run is under way, or by a machine that has what this one may not have.
    "The last good checkpoint is *",
    "the loss became *",
    "a weight became infinite",
    "update: graph cannot capture",
    "update: compiled cannot compile",
    "update: compiled computes updates on a CPU",
    "replay_device: *; set --data.replay_device cpu",
    "is not possible here, because",
    "and torchrun has started",
    "actors died while they played",
    "an actor cannot make its envs",
    "cannot be sent to actors",
    "actors get only the network",
    "actors take one CPU each",
    "end what uses them",
    "there is no Ray at address",
    "Ray does not start on this machine",
    "--model.network.encoders '{",
    "keeps no memory inside another network",  # of an encoder, with the encoder's key
    "env_processes: * cannot be made",
    "gamma: *, such as",
    "has no ROM in this installation",
    "by srun --ntasks=1",
    "processes were started together",
    "times as long as float32 for a product of matrices",
    # Said of folders and checkpoints that other tests make.
    "the run * exists already",
    "train an agent first, by fit",
    "ckpt_path: export needs an agent",
    "the replay of the checkpoint * cannot be read",
    "its running episodes do not have a memory",
    "the checkpoint has no state of ReplayDataModule",
    "holds no state of *",
    "cannot be resumed with this optimizer",
    "target network, and cannot be resumed with",
    "give the run's --config",
    "give its run's own --config",
    "give a file of it: --config",
    "error: --output * cannot be written",
    "error: --output * is a folder",
    "name another, --folder NAME",
    "repeats a run from its beginning",
    "of a run without asynchronous play",
    "the players of the checkpoint's journal",
    *(["RayActors needs the package ray"] if find_spec("ray") else []),
)
"""Parts of the messages that no case here says."""


@pytest.mark.slow  # all cases; half of them are in the test above
def test_every_message_is_said_by_a_case():
    sentences = [sentence for line in CASES for sentence, _ in said(line)]
    table = yaml.safe_load((HERE / "data/bad_inputs.yaml").read_text())
    for line, _ in [*((CARTPOLE + line, "") for line, _ in table["first"]), *table["lines"]]:
        with pytest.raises(ConfigError) as error:
            first_look(shlex.split(line))
        sentences.append(str(error.value))
    unsaid = [f"{file}: {text}" for file, text in messages() if not any(says(text, sentence) for sentence in sentences)]
    unlisted = [message for message in unsaid if not any(part in message for part in NOT_SAID)]
    assert unlisted == []
    assert [part for part in NOT_SAID if not any(part in message for message in unsaid)] == []
