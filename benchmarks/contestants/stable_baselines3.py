"""Stable-Baselines3's DQN."""

from typing import Any

from side_by_side import Stopwatch, Work

# A chunk of train_freq * num_envs env steps gets as many updates as the ratio says.
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "pong": {"Stable-Baselines3": {"num_envs": 8, "fused": True, "games": "gymnasium"}},
    "cartpole": {"Stable-Baselines3": {"num_envs": 10, "train_freq": 8, "fused": True}},
}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "pong": {
        "Stable-Baselines3, 1 env": {"num_envs": 1, "train_freq": 4, "fused": True, "games": "gymnasium"},
        "Stable-Baselines3, 4 envs": {"num_envs": 4, "fused": True, "games": "gymnasium"},
        "Stable-Baselines3, its own wrappers": {"num_envs": 8, "fused": True, "games": "own"},
        "Stable-Baselines3, processes": {"num_envs": 8, "fused": True, "games": "gymnasium", "processes": True},
        "Stable-Baselines3, memory optimised": {
            "num_envs": 8,
            "fused": True,
            "games": "gymnasium",
            "optimize_memory": True,
        },
        "Stable-Baselines3, plain Adam": {"num_envs": 8, "fused": False, "games": "gymnasium"},
        "Stable-Baselines3, channels last": {"num_envs": 8, "fused": True, "games": "gymnasium", "channels_last": True},
    },
    "cartpole": {
        "Stable-Baselines3, 1 env": {"num_envs": 1, "train_freq": 10, "fused": True},
        "Stable-Baselines3, no chunks": {"num_envs": 10, "train_freq": 1, "fused": True},
        "Stable-Baselines3, plain Adam": {"num_envs": 10, "train_freq": 8, "fused": False},
    },
}


def measure(work: Work, steps: int, stopwatch: Stopwatch, **settings: Any) -> None:
    """Learn, and lap around the last `steps` env steps.

    Args:
        work: what is done.
        steps: env steps that are timed.
        stopwatch: lapped at their beginning and end.
        settings: of `make_agent`.

    """
    agent = make_agent(work, **settings)
    agent.learn(work.min_replay_size + work.burn_in, log_interval=None)
    stopwatch.lap(agent.num_timesteps)
    agent.learn(steps, log_interval=None, reset_num_timesteps=False)
    stopwatch.lap(agent.num_timesteps)


def make_agent(
    work: Work,
    *,
    num_envs: int,
    fused: bool,
    train_freq: int = 1,
    games: str = "",
    processes: bool = False,
    optimize_memory: bool = False,
    channels_last: bool = False,
    device: str = "cpu",
) -> Any:
    """A DQN that has not learned anything.

    Args:
        work: what is done.
        num_envs: played side by side.
        fused: Adam in one kernel.
        train_freq: steps of the vector env between updates.
        games: whose wrappers make Atari's images, "gymnasium"'s or Stable-Baselines3's "own".
        processes: one for each env.
        optimize_memory: of the replay.
        channels_last: layout of the weights; no argument of DQN offers it, but its policy is a module.
        device: of the networks.

    """
    import torch
    from stable_baselines3 import DQN
    from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

    from contestants.games import make_single

    if games == "own":
        envs = _own_games(work, num_envs)
    else:  # as a ready vector env, which gets no Monitor around it
        kind = SubprocVecEnv if processes else DummyVecEnv
        envs = kind([lambda: make_single(work)] * num_envs)
    chunk = train_freq * num_envs
    network = {} if work.images else {"net_arch": [120, 84]}
    agent = DQN(
        "CnnPolicy" if work.images else "MlpPolicy",
        envs,
        learning_rate=work.learning_rate,
        buffer_size=work.capacity,
        learning_starts=work.min_replay_size,
        batch_size=work.batch_size,
        gamma=work.gamma,
        train_freq=train_freq,
        gradient_steps=chunk // work.env_steps_per_update,
        target_update_interval=work.target_update_period * work.env_steps_per_update,
        exploration_initial_eps=work.epsilon,
        exploration_final_eps=work.epsilon,
        optimize_memory_usage=optimize_memory,
        replay_buffer_kwargs={"handle_timeout_termination": not optimize_memory},  # the two exclude each other
        policy_kwargs={"optimizer_kwargs": {"fused": True} if fused else {}, **network},
        seed=work.seed,
        device=device,
    )
    if channels_last:
        agent.policy.to(memory_format=torch.channels_last)
    return agent


def _own_games(work: Work, num_envs: int) -> Any:
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    import contestants.games  # noqa: F401 - registers the games

    envs = make_atari_env(
        work.env_id,
        num_envs,
        env_kwargs={"frameskip": 1, "repeat_action_probability": 0.25},
        wrapper_kwargs={"noop_max": 0, "terminal_on_life_loss": False},
    )
    return VecFrameStack(envs, 4)
