"""Tianshou's DQN, with EnvPool's games as it recommends."""

from typing import Any

from side_by_side import Stopwatch, Work

# A chunk is collected between updates, which are as many as the ratio says. Its trainer looks for NaN in the whole
# replay after each chunk, for which it copies it; a loop around its parts, as its documentation also shows, does not.
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "pong": {"Tianshou": {"num_envs": 8, "chunk": 32, "fused": True, "channels_last": True}},
    "cartpole": {"Tianshou": {"num_envs": 10, "chunk": 80, "fused": True}},
}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "pong": {
        "Tianshou, its trainer": {"num_envs": 8, "chunk": 32, "fused": True, "channels_last": True, "trainer": True},
        "Tianshou, 1 env": {"num_envs": 1, "chunk": 4, "fused": True, "channels_last": True},
        "Tianshou, 4 envs": {"num_envs": 4, "chunk": 4, "fused": True, "channels_last": True},
        "Tianshou, weights as they come": {"num_envs": 8, "chunk": 32, "fused": True},
        "Tianshou, plain Adam": {"num_envs": 8, "chunk": 32, "fused": False, "channels_last": True},
    },
    "cartpole": {
        "Tianshou, its trainer": {"num_envs": 10, "chunk": 80, "fused": True, "trainer": True},
        "Tianshou, 1 env": {"num_envs": 1, "chunk": 80, "fused": True},
        "Tianshou, no chunks": {"num_envs": 10, "chunk": 10, "fused": True},
        "Tianshou, Gymnasium's envs": {"num_envs": 10, "chunk": 80, "fused": True, "envpool": False},
        "Tianshou, plain Adam": {"num_envs": 10, "chunk": 80, "fused": False},
    },
}


def measure(
    work: Work,
    steps: int,
    stopwatch: Stopwatch,
    *,
    num_envs: int,
    chunk: int,
    fused: bool,
    channels_last: bool = False,
    envpool: bool = True,
    trainer: bool = False,
) -> None:
    """Learn, and lap around the last `steps` env steps.

    Args:
        work: what is done.
        steps: env steps that are timed.
        stopwatch: lapped at their beginning and end.
        num_envs: played side by side.
        chunk: env steps between updates.
        fused: Adam in one kernel.
        channels_last: layout of the weights; the network is the user's own with Tianshou.
        envpool: EnvPool's envs in C++, else Gymnasium's in this process.
        trainer: its trainer, else a loop of one's own around its parts.

    """
    import torch
    from tianshou.algorithm import DQN
    from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
    from tianshou.algorithm.optim import TorchOptimizerFactory
    from tianshou.data import Collector, VectorReplayBuffer
    from tianshou.env import DummyVectorEnv
    from tianshou.trainer import OffPolicyTrainerParams
    from tianshou.utils.torch_utils import policy_within_training_step

    from contestants.games import make_pool, make_single
    from contestants.networks import make_network

    torch.manual_seed(work.seed)
    single = make_single(work)
    envs = make_pool(work, num_envs) if envpool else DummyVectorEnv([lambda: make_single(work)] * num_envs)
    network = make_network(work, single)
    if channels_last:
        network.to(memory_format=torch.channels_last)

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
            return self.network(torch.as_tensor(obs)).float(), state

    policy = DiscreteQLearningPolicy(
        model=Model(),
        action_space=single.action_space,
        observation_space=single.observation_space,
        eps_training=work.epsilon,
    )
    optimizer = TorchOptimizerFactory(torch.optim.Adam, lr=work.learning_rate, fused=fused)
    algorithm = DQN(
        policy=policy,
        optim=optimizer,
        gamma=work.gamma,
        target_update_freq=work.target_update_period,
        is_double=False,
        huber_loss_delta=1.0,
    )
    # Frames are stored once, as its own example for Atari has it.
    stacked = {"ignore_obs_next": True, "save_only_last_obs": True, "stack_num": 4} if work.images else {}
    buffer = VectorReplayBuffer(work.capacity, num_envs, **stacked)
    collector = Collector(algorithm, envs, buffer, exploration_noise=True)
    collector.reset()
    collector.collect(n_step=work.min_replay_size, random=True)

    first, last = work.burn_in, work.burn_in + steps
    if trainer:
        algorithm.run_training(
            OffPolicyTrainerParams(
                training_collector=collector,
                max_epochs=1,
                epoch_num_steps=last + chunk,
                batch_size=work.batch_size,
                collection_step_num_env_steps=chunk,
                update_step_num_gradient_steps_per_sample=1 / work.env_steps_per_update,
                # called as a chunk begins
                training_fn=lambda _, env_step: stopwatch.lap(env_step) if first <= env_step else None,
                verbose=False,
                show_progress=False,
            )
        )
        return
    played = 0
    while played < last:
        with policy_within_training_step(policy):
            played += collector.collect(n_step=chunk).n_collected_steps
            for _ in range(chunk // work.env_steps_per_update):
                algorithm.update(buffer=buffer, sample_size=work.batch_size)
        if played >= first:
            stopwatch.lap(played)
