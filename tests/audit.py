"""An env that writes where it is into its observation, and the brute force that checks a replay against it."""

from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium.wrappers import FrameStackObservation

from lit_dqn.envs import make_vec, stored_dtype
from lit_dqn.playing.collector import Collector
from lit_dqn.playing.player import Player
from lit_dqn.playing.policies import UniformRandom
from lit_dqn.playing.resimulation import ResumeEnv
from lit_dqn.playing.seeds import episode_seed
from lit_dqn.replay import DeviceFrames, Replay, ReplayBuffer, Sequences, SequenceStore, Uniform

AUDIT_ENV = "lit_dqn_tests/Audit-v0"
Key = tuple[int, int, int]  # (env, episode, t)


class Played(NamedTuple):
    episode: int
    t: int
    action: int
    reward: float
    terminated: bool
    truncated: bool
    life_lost: bool


class AuditEnv(gymnasium.Env):
    """Shows (env, episode, t) and ends at random, terminated, truncated or both; remembers seeds and steps.

    It may also say, now and then, that a life was lost.
    """

    def __init__(
        self, termination: float = 0.1, truncation: float = 0.1, image: bool = False, life_loss: float = 0.0
    ) -> None:
        shape, dtype = ((3, 1, 1), np.uint8) if image else ((3,), np.float32)
        self.observation_space = gymnasium.spaces.Box(0, 255 if image else 2**20, shape, dtype)
        self.action_space = gymnasium.spaces.Discrete(4)
        self.chances = termination, truncation
        self.life_loss = life_loss
        self.index, self.episode, self.t = 0, -1, 0
        self.seeds: list[int | None] = []
        self.steps: list[Played] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.episode, self.t = self.episode + 1, 0
        self.seeds.append(seed)
        return self.observe(), {}

    def step(self, action):
        reward = float(self.np_random.normal())
        terminated, truncated = (self.np_random.random(2) < self.chances).tolist()
        life_lost = bool(self.np_random.random() < self.life_loss)
        self.steps.append(Played(self.episode, self.t, int(action), reward, terminated, truncated, life_lost))
        self.t += 1
        return self.observe(), reward, terminated, truncated, {"life_lost": life_lost} if self.life_loss else {}

    def observe(self):
        space = self.observation_space
        return np.array([self.index, self.episode, self.t]).astype(space.dtype).reshape(space.shape)


gymnasium.register(AUDIT_ENV, AuditEnv, disable_env_checker=True)


class NobodyAsks:
    """An agent that must not be asked."""

    num_actions = 4

    def preferences(self, observation):
        raise AssertionError("the agent was asked")


class Remembering(NobodyAsks):
    """Remembers the env and the episode (both + 1) that it saw last, and how many observations of it; it must be asked
    at each step, also where the policy does not ask it.
    """

    memory_size = 3

    def remember(self, observation, memory):
        newest = np.asarray(observation).reshape(len(observation), -1, 3)[:, -1].astype(np.float32)
        after = np.concatenate([newest[:, :2] + 1, memory[:, 2:] + 1], axis=1)
        return np.zeros((len(observation), 4), np.float32), after


def audit_collector(
    num_envs: int,
    capacity: int = 64,
    *,
    n_step=1,
    frame_stack=1,
    gamma=0.9,
    reward_clip=None,
    seed=7,
    env_id=AUDIT_ENV,
    sequences: Sequences | None = None,
    **env_kwargs,
):
    """A collector over audit envs that know their index; of sequences, with an agent that remembers."""
    memory_size = 0 if sequences is None else Remembering.memory_size
    envs = make_vec(env_id, num_envs, env_kwargs)
    for index, env in enumerate(envs.envs):
        env.unwrapped.index = index
    space = envs.single_observation_space
    replay = ReplayBuffer(
        capacity,
        num_envs,
        space.shape,
        stored_dtype(space),
        gamma=gamma,
        n_step=n_step,
        frame_stack=frame_stack,
        reward_clip=reward_clip,
        memory_size=memory_size,
    )
    store = Replay(replay, Uniform()) if sequences is None else SequenceStore(replay, sequences)
    return Collector(Player(envs, frame_stack, seed, memory_size=memory_size), UniformRandom(), store)


class Audit:
    """Follows a collector step by step and knows by brute force what its replay must hold.

    What observations look like is asked of Gymnasium: shadow envs play the same episodes in FrameStackObservation.
    """

    def __init__(self, collector: Collector) -> None:
        self.collector, self.replay = collector, collector.store.buffer
        self.agent = Remembering() if isinstance(collector.store, SequenceStore) else NobodyAsks()
        self.envs: list[AuditEnv] = [env.unwrapped for env in collector.players.envs.envs]
        self.shadows = []
        for env in self.envs:
            shadow = AuditEnv(*env.chances, env.observation_space.dtype == np.uint8, env.life_loss)
            shadow.index = env.index
            stack = self.replay.frame_stack
            self.shadows.append(FrameStackObservation(shadow, stack, padding_type="reset") if stack > 1 else shadow)
        self.history: dict[Key, Played] = {}
        self.shown: dict[Key, np.ndarray] = {}
        self.device_frames = DeviceFrames(self.replay, "cpu")
        self.completed: list[list[Key]] = []  # starts by the time at which their window was complete

    def play(self) -> None:
        """One step of every env."""
        self.collector.collect(self.agent, len(self.envs))
        self.completed.append([])
        for index, (env, shadow) in enumerate(zip(self.envs, self.shadows, strict=True)):
            played = env.steps[-1]
            _, episode, t = key = (index, played.episode, played.t)
            self.history[key] = played
            if t == 0:
                shadow.unwrapped.episode = episode - 1
                self.shown[key], _ = shadow.reset(seed=episode_seed(self.collector.players.seed, index, episode))
            self.shown[index, episode, t + 1], reward, *_ = shadow.step(played.action)
            assert reward == played.reward  # the shadow plays the same episode
            n_step = self.replay.n_step
            oldest = max(t - n_step + 1, 0)
            newest = t if played.terminated or played.truncated else t - n_step + 1
            self.completed[-1] += [(index, episode, start) for start in range(oldest, newest + 1)]

    def cut(self) -> None:
        """Restore the collector from its own state: every running episode is cut."""
        self.collector.load_state_dict(self.collector.state_dict(), ResumeEnv.new_episode)
        self.completed.append([])
        for index, env in enumerate(self.envs):
            played = env.steps[-1]
            if not (played.terminated or played.truncated):
                self.history[index, played.episode, played.t] = played._replace(truncated=True)
                oldest = max(played.t - self.replay.n_step + 2, 0)
                self.completed[-1] += [(index, played.episode, t) for t in range(oldest, played.t + 1)]

    def transition(self, key: Key, n_step: int, gamma: float) -> tuple[float, float, Key]:
        """n-step return, discount, and where the window ends."""
        env, episode, t = key
        total, discount = 0.0, 1.0
        for _ in range(n_step):
            played = self.history[env, episode, t]
            clip = self.replay.reward_clip or np.inf
            total += discount * min(max(played.reward, -clip), clip)
            discount *= 0 if played.terminated or played.life_lost else gamma
            t += 1
            if played.terminated or played.truncated:
                break
        return total, discount, (env, episode, t)

    def check_transitions(self, *window) -> list[Key]:
        """Every start that can be drawn is drawn, over a window of so many steps and with such a γ, and compared;
        returns them in order.
        """
        n_step, gamma = window or (self.replay.n_step, self.replay.gamma)
        keys: list[Key] = []
        if not self.replay.starts:
            return keys
        starts = np.array(self.replay.starts)
        batch = self.replay.sample(starts, *window)
        (gathered,) = self.device_frames.batches(self.replay.lookup(starts, *window), 1)
        for name, one, other in zip(batch._fields[:5], batch.tensors, gathered.tensors, strict=True):
            assert one.dtype == other.dtype, name
            assert torch.equal(one, other), name
        for row, observation in enumerate(batch.observation.numpy()):
            key = tuple(map(int, observation.reshape(-1, 3)[-1]))
            assert key in self.history, f"{key} starts at a last observation, or was never played"
            total, discount, end = self.transition(key, n_step, gamma)
            shape = observation.shape  # Gymnasium keeps the stack as the first axis, we join images along it
            np.testing.assert_array_equal(observation, self.shown[key].reshape(shape))
            np.testing.assert_array_equal(batch.next_observation[row], self.shown[end].reshape(shape))
            assert batch.action[row] == self.history[key].action
            assert abs(float(batch.reward[row]) - total) < 1e-5
            assert abs(float(batch.discount[row]) - discount) < 1e-6
            keys.append(key)
        assert len(set(keys)) == len(keys)
        return keys

    def check_sequences(self, *window) -> int:
        """The sequence of every transition that can be drawn is compared step by step; returns how many were."""
        n_step, gamma = window or (self.replay.n_step, self.replay.gamma)
        store, drawable = self.collector.store, np.array(self.collector.store.drawable)
        if not len(drawable):
            return 0
        length, burn_in, stride = store.sequences.length, store.sequences.burn_in, store.sequences.stride
        complete = {key for group in self.completed for key in group}
        drawn = store.sample(drawable, n_step, gamma)
        assert drawn["observation"].shape[:2] == (len(drawable), length + self.replay.n_step)
        assert drawn["action"].shape == drawn["weight"].shape == (len(drawable), length)
        of_starts = self.replay.sample(drawable).observation.numpy().reshape(len(drawable), -1, 3)[:, -1]
        for row, (env, episode, t) in enumerate(of_starts.astype(int).tolist()):
            begin = t // stride * stride
            keys = [(env, episode, step) for step in range(begin, begin + length) if (env, episode, step) in complete]
            assert drawn["weight"][row].tolist() == [1.0] * len(keys) + [0.0] * (length - len(keys))
            assert (env, episode, t) in keys
            newest = drawn["observation"][row].reshape(length + self.replay.n_step, -1, 3)
            assert (newest[..., :2] == (env, episode)).all(), "another episode, or another env"
            for place, key in enumerate(keys):
                total, discount, end = self.transition(key, n_step, gamma)
                assert drawn["action"][row, place] == self.history[key].action
                assert abs(drawn["reward"][row, place] - total) < 1e-5
                assert abs(drawn["discount"][row, place] - discount) < 1e-6
                for seen, at in zip((key, end), drawn["place"][row, :, place], strict=True):
                    self._is_shown(drawn["observation"][row, at], seen)
                self._is_shown(drawn["observation"][row, place], key)  # one after the other
            assert drawn["burned_in"][row] == (begin > 0)
            first = begin - burn_in if begin > 0 else 0
            remembered = [0, 0, 0] if first == 0 else [env + 1, episode + 1, first]
            assert drawn["memory"][row].tolist() == remembered
            if begin > 0 and burn_in:
                for place in range(burn_in):
                    self._is_shown(drawn["burn_in"][row, place], (env, episode, first + place))
            assert burn_in or "burn_in" not in drawn
        return len(drawable)

    def _is_shown(self, observation: np.ndarray, key: Key) -> None:
        np.testing.assert_array_equal(observation, self.shown[key].reshape(observation.shape))

    def check_newest(self, keys: list[Key]) -> None:
        """The starts are the newest `capacity` of all, and in each env oldest first."""
        completed = [(time, key) for time, group in enumerate(self.completed) for key in group]
        time_of = {key: time for time, key in completed}
        assert len(keys) == min(self.replay.capacity, len(completed))
        assert [time_of[key] for key in keys] == [time for time, _ in completed[len(completed) - len(keys) :]]
        for index in range(len(self.envs)):
            of_env = [key for _, key in completed if key[0] == index]
            kept = [key for key in keys if key[0] == index]
            assert kept == of_env[len(of_env) - len(kept) :]

    def check_last_episodes(self) -> None:
        for index in range(len(self.envs)):
            frames = [tuple(map(int, frame.reshape(3))) for frame in self.replay.last_episode(index)]
            of_env = [(key, played) for key, played in self.history.items() if key[0] == index]
            ended = [key for key, played in of_env if played.terminated or played.truncated]
            if not ended:
                assert not frames
                continue
            _, episode, t = ended[-1]
            whole = [(index, episode, step) for step in range(t + 2)]
            assert frames == whole[len(whole) - len(frames) :]
            if t + self.envs[index].t < self.replay.capacity // len(self.envs):
                assert frames == whole
