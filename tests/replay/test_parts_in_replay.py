"""Transitions of observations of several parts are those of their images, which the audit knows to be right."""

import numpy as np
import pytest
import torch

import parting  # noqa: F401 - registers its envs
from audit import NobodyAsks, audit_collector
from lit_dqn.playing.resimulation import ResumeEnv
from lit_dqn.replay import DeviceFrames

ENDINGS = {"some": {}, "short": {"termination": 0.5, "truncation": 0.4}, "lives": {"life_loss": 0.3}}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("num_envs", "n_step", "frame_stack", "capacity"), [(1, 1, 1, 8), (2, 1, 4, 32), (3, 3, 4, 20), (4, 5, 2, 3)]
)
def test_every_part_of_every_transition_is_of_its_moment(num_envs, n_step, frame_stack, capacity, ending):
    layout = {"capacity": capacity, "n_step": n_step, "frame_stack": frame_stack, **ENDINGS[ending]}
    images = audit_collector(num_envs, image=True, **layout)
    whole = audit_collector(num_envs, env_id="lit_dqn_tests/PartsAudit-v0", **layout)
    parts = whole.players.envs.single_observation_space.parts.stacked(frame_stack)
    on_device = DeviceFrames(whole.store.buffer, "cpu")
    for moment in range(40 + 3 * capacity // num_envs):
        for collector in (images, whole):
            collector.collect(NobodyAsks(), num_envs)
            if moment == 25:
                collector.load_state_dict(collector.state_dict(), ResumeEnv.new_episode)  # cuts the episodes
        one, other = images.store.buffer, whole.store.buffer
        assert one.starts == other.starts
        if not one.starts:
            continue
        expected, found = (buffer.sample(np.array(buffer.starts)) for buffer in (one, other))
        for name in ("action", "reward", "discount"):
            assert torch.equal(getattr(found, name), getattr(expected, name)), name
        (gathered,) = on_device.batches(other.lookup(np.array(other.starts)), 1)
        for rows, image in (
            (found.observation, expected.observation),
            (found.next_observation, expected.next_observation),
            (gathered.observation, expected.observation),
            (gathered.next_observation, expected.next_observation),
        ):
            seen = parts.tensors(rows)
            assert torch.equal(seen["image"], image)
            newest = image.reshape(len(image), -1, 3)[:, -1]
            assert torch.equal(seen["place"], newest.float())
            assert torch.equal(seen["phase"].int().argmax(dim=1), newest[:, 2].long() % 5)
            assert (seen["phase"].sum(dim=1) == 1).all()
