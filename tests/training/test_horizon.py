"""γ and n that change while a run learns."""

import numpy as np
import torch

from helpers import make_agent, make_data, make_trainer
from lit_dqn import Exponential, Linear, Repeated, ReplayCheckpointIO, Rollout
from lit_dqn.replay import Horizon, ReplayBuffer
from lit_dqn.replay.rollout import RolloutStore
from lit_dqn.types import Chunk, Timestep

BBF = {
    "n_step": Repeated(Exponential(10, 3, 20), every_env_steps=40, until_env_steps=120),
    "gamma": Repeated(Exponential(0.97, 0.997, 20, towards=1.0), every_env_steps=40),
}


def test_n_is_rounded_and_the_longest_window_is_known():
    horizon = Horizon(Linear(5, 2, 6), 0.9)
    assert [horizon.steps(env_step) for env_step in range(8)] == [5, 4, 4, 4, 3, 2, 2, 2]
    assert (horizon.longest, horizon.discount(3)) == (5, 0.9)
    assert horizon.metrics(4) == {"n_step": 3.0}
    assert Horizon(Linear(2, 5, 6), 0.9).longest == 5
    half = Horizon(Exponential(2.7, 6.5, 40), 0.9)  # whose formula ends one bit above 6.5
    assert half.longest == half.steps(40) == 6


def train(tmp_path, epochs, ahead, ckpt_path=None):
    agent = make_agent()
    data = make_data(**BBF, num_envs=2, gradient_steps=2, play_ahead=ahead)
    seen: list[Chunk] = []
    step = agent.training_step
    agent.training_step = lambda chunk, batch_idx: (seen.append(chunk), step(chunk, batch_idx))[1]
    trainer = make_trainer(max_epochs=epochs, plugins=[ReplayCheckpointIO()])
    trainer.fit(agent, datamodule=data, ckpt_path=ckpt_path)
    trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt", weights_only=False)
    return agent.state_dict(), seen, data


def test_batches_are_drawn_by_the_env_step_of_their_chunk(tmp_path):
    _, seen, data = train(tmp_path, 4, ahead=False)
    for chunk in seen:
        n_step, gamma = data.horizon.steps(chunk.env_step), data.horizon.discount(chunk.env_step)
        for batch in chunk.batches:
            longest = np.isclose(batch.discount, gamma**n_step, rtol=1e-5)
            assert longest.any()  # the others end with their episode
            assert (batch.discount[~longest] <= gamma).all()
    assert len({data.horizon.steps(chunk.env_step) for chunk in seen}) > 3


def test_a_run_whose_n_and_gamma_change_is_resumed_exactly(tmp_path):
    for ahead in (False, True):
        whole, *_ = train(tmp_path, 4, ahead)
        train(tmp_path, 2, ahead)
        again, *_ = train(tmp_path, 4, ahead, ckpt_path=tmp_path / "2.ckpt")
        assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_rollout_discounts_by_gamma_of_now():
    buffer = ReplayBuffer(2, 1, (1,), np.float32, gamma=0.9)
    nothing, no = np.zeros((1, 1), np.float32), np.array([False])
    for _ in range(2):
        buffer.add(Timestep(nothing, np.array([0]), np.array([1.0]), ~no, no, nothing))
    values = lambda observation: np.full(len(observation), 10, np.float32)  # noqa: E731
    store = RolloutStore(buffer, Rollout(0.0), values, Horizon(1, Linear(0.5, 1.0, 10)))
    generator = np.random.default_rng(0)
    returns = [store.draw(1, 2, generator, env_step).batches[0].reward.tolist() for env_step in (0, 10)]
    assert returns == [[6.0, 6.0], [11.0, 11.0]]
