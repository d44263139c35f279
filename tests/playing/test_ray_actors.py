"""Players in real actors of Ray; who dies when is proved by prove_places.py."""

import os

import psutil
import pytest

from helpers import make_agent, make_data, make_trainer, same
from lit_dqn import RayActors
from lit_dqn.playing.distant import DistantPlayers

pytest.importorskip("ray", reason="the extra ray is not installed")
pytestmark = pytest.mark.slow


def fitted(place):
    agent, data = make_agent(), make_data(num_envs=8, gradient_steps=2, env_steps_per_update=8, place=place)
    make_trainer(max_epochs=3).fit(agent, data)
    return agent, data


def kill_an_actor():
    """SIGKILL to the process of one."""
    for process in psutil.Process(os.getpid()).children(recursive=True):
        if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::Actor"):
            process.kill()
            return
    raise AssertionError("there is no actor")


def test_a_run_in_ray_is_the_run_here_also_if_an_actor_is_killed(monkeypatch):
    play, chunks = DistantPlayers.play, iter(range(10**6))

    def with_a_kill(*arguments):
        if next(chunks) == 9:
            kill_an_actor()
        play(*arguments)

    monkeypatch.setattr(DistantPlayers, "play", with_a_kill)
    (one, played), (other, elsewhere) = fitted(None), fitted(RayActors(actors=2, envs_per_player=4))
    assert elsewhere.collector.players.deaths == 1
    assert same(one.state_dict(), other.state_dict())
    generators, there = (data.collector.state_dict()["generators"] for data in (played, elsewhere))
    assert generators == there


def test_ray_ends_with_the_run_that_began_it():
    import ray

    fitted(RayActors(actors=1))
    assert not ray.is_initialized()
