"""TorchRL's DQN: a loop as in its own scripts (sota-implementations/dqn), without their loggers and evaluations."""

import math
from typing import Any

from side_by_side import Stopwatch, Work

# Its scripts convert, resize and stack images as tensors of floats; ALE's vector env gives stacks of uint8. Its wrapper
# of EnvPool wants the old package gym, which NumPy 2 does not run with.
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "pong": {"TorchRL": {"num_envs": 8, "chunk": 32, "fused": True, "channels_last": True, "envs": "ale"}},
    "cartpole": {
        "TorchRL": {"num_envs": 10, "chunk": 80, "fused": True, "envs": "gymnasium"},
        "TorchRL, compiled": {"num_envs": 10, "chunk": 80, "fused": True, "envs": "gymnasium", "compile": True},
    },
}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "pong": {
        "TorchRL, 1 env": {"num_envs": 1, "chunk": 32, "fused": True, "channels_last": True, "envs": "single"},
        "TorchRL, no chunks": {"num_envs": 4, "chunk": 4, "fused": True, "channels_last": True, "envs": "ale"},
        "TorchRL, weights as they come": {"num_envs": 8, "chunk": 32, "fused": True, "envs": "ale"},
        "TorchRL, Gymnasium's wrappers": {
            "num_envs": 8,
            "chunk": 32,
            "fused": True,
            "channels_last": True,
            "envs": "gymnasium",
        },
        "TorchRL, plain Adam": {"num_envs": 8, "chunk": 32, "fused": False, "channels_last": True, "envs": "ale"},
        "TorchRL, compiled": {
            "num_envs": 8,
            "chunk": 32,
            "fused": True,
            "channels_last": True,
            "envs": "ale",
            "compile": True,
        },
    },
    "cartpole": {
        "TorchRL, 1 env": {"num_envs": 1, "chunk": 80, "fused": True, "envs": "single"},
        "TorchRL, no chunks": {"num_envs": 10, "chunk": 10, "fused": True, "envs": "gymnasium"},
        "TorchRL, plain Adam": {"num_envs": 10, "chunk": 80, "fused": False, "envs": "gymnasium"},
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
    envs: str,
    channels_last: bool = False,
    compile: bool = False,
) -> None:
    """Learn, and lap around the last `steps` env steps.

    Args:
        work: what is done.
        steps: env steps that are timed.
        stopwatch: lapped at their beginning and end.
        num_envs: played side by side.
        chunk: env steps between updates.
        fused: Adam in one kernel.
        envs: "single", "gymnasium" (its SyncVectorEnv) or "ale" (ALE's own vector env in C++, for Pong).
        channels_last: layout of the weights; the network is the user's own with TorchRL.
        compile: the update by torch.compile, as its scripts offer.

    """
    import torch
    from tensordict.nn import TensorDictSequential
    from torchrl.collectors import Collector
    from torchrl.data import Composite, LazyTensorStorage, TensorDictReplayBuffer
    from torchrl.modules import EGreedyModule, QValueActor
    from torchrl.objectives import DQNLoss, HardUpdate

    from contestants.games import make_single
    from contestants.networks import make_network

    torch.manual_seed(work.seed)
    env = _make_envs(work, num_envs, envs)
    network = make_network(work, make_single(work))
    if channels_last:
        network.to(memory_format=torch.channels_last)
    actor = QValueActor(module=network, spec=Composite(action=env.action_spec_unbatched), in_keys=["observation"])
    explorer = EGreedyModule(spec=actor.spec, eps_init=work.epsilon, eps_end=work.epsilon, annealing_num_steps=1)
    replay = TensorDictReplayBuffer(storage=LazyTensorStorage(work.capacity), batch_size=work.batch_size)
    loss_module = DQNLoss(actor, loss_function="smooth_l1", delay_value=True)
    loss_module.make_value_estimator(gamma=work.gamma)
    target = HardUpdate(loss_module, value_network_update_interval=work.target_update_period)
    optimizer = torch.optim.Adam(loss_module.parameters(), lr=work.learning_rate, fused=fused)

    def update(batch: Any) -> Any:
        loss = loss_module(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        target.step()
        return loss.detach()

    if compile:
        update = torch.compile(update)
    first = math.ceil((work.min_replay_size + work.burn_in) / chunk) * chunk
    last = first + math.ceil(steps / chunk) * chunk
    collector = Collector(
        env,
        TensorDictSequential(actor, explorer),
        frames_per_batch=chunk,
        total_frames=last,
        init_random_frames=work.min_replay_size,
    )
    played = 0
    for data in collector:
        replay.extend(data.reshape(-1))
        played += chunk
        if played >= work.min_replay_size:
            for _ in range(chunk // work.env_steps_per_update):
                update(replay.sample())
        if played in (first, last):
            stopwatch.lap(played)


def _make_envs(work: Work, num_envs: int, envs: str) -> Any:
    from torchrl.envs import GymWrapper

    from contestants.games import make_single, make_vector

    made = make_single(work) if envs == "single" else make_vector(work, num_envs, ale=envs == "ale")
    return GymWrapper(made, categorical_action_encoding=True)
