"""Mistakes that the tests once did not notice, each with the test that does now: it is red when the mistake is made."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]


class Mutation(NamedTuple):
    mistake: str
    file: str  # of src/lit_dqn
    right: str  # stands there once
    wrong: str
    test: str  # of tests


DRAWN_LATE = """\
                with self.agent.exploring():
                    collector.collect(self.agent, self.env_steps_per_chunk)
                yield self._draw(collector.env_step)
"""
DRAWN_EARLY = """\
                chunk = self._draw(collector.env_step + self.env_steps_per_chunk)
                collector.collect(self.agent, self.env_steps_per_chunk)
                yield chunk
"""
CHUNK = "training/test_data.py::test_a_chunk_holds_the_batches_of_its_updates"
WHEN_DRAWN = (
    "training/test_data.py::test_the_batches_of_a_chunk_are_drawn_when_it_is_played_or_before_it_is_played_ahead"
)
FILLED_ONCE = "training/test_data.py::test_a_replay_that_was_not_saved_is_filled_again_once"
OWN_GENERATOR = "playing/test_collector.py::test_each_env_explores_by_a_generator_of_its_own"
GO_ON = "commands/test_resume.py::test_a_network_with_dropout_learns_on_as_if_it_had_never_stopped"
GENERATORS = "[exploration_generator(seed, first_env + env) for env in range(envs.num_envs)]"

MUTATIONS = [
    Mutation("a batch drawn before its chunk is played", "training/dataset.py", DRAWN_LATE, DRAWN_EARLY, WHEN_DRAWN),
    Mutation(
        "one batch drawn for all updates of a chunk",
        "replay/store.py",
        "sample_many(self.buffer.starts, updates, batch_size, generator)",
        "sample_many(self.buffer.starts, 1, batch_size, generator).repeat(updates, 0)",
        CHUNK,
    ),
    Mutation(
        "one batch learned from in all updates of a chunk",
        "learning/learner.py",
        "[self._update(batch) for batch in batches]",
        "[self._update(batches[0]) for batch in batches]",
        "training/test_dqn.py::test_each_batch_of_a_chunk_is_learned_from_once_and_in_order",
    ),
    Mutation(
        "the sum of a batch's losses",
        "learning/losses.py",
        "return loss.mean()",
        "return loss.sum()",
        "training/test_dqn.py::test_the_gradient_is_that_of_the_mean_over_the_batch_whatever_its_size",
    ),
    Mutation(
        "the weights of a prioritised batch are left out",
        "learning/losses.py",
        "(weight * loss).mean()",
        "loss.mean()",
        "replay/test_blind_cliff_walk.py::test_weights_take_the_bias_of_priorities_back",
    ),
    Mutation(
        "the global generators are not restored",
        "saving/loops.py",
        "    set_random_state(checkpoint.random_state)\n",
        "",
        GO_ON,
    ),
    Mutation(
        "torch's generator is not restored",
        "saving/random_state.py",
        '    torch.set_rng_state(state["torch"])\n',
        "",
        "commands/test_resume.py::test_the_global_generators_go_on_where_they_stood",
    ),
    Mutation(
        "act gives images to the network without their scale",
        "training/acting.py",
        "if frame.dtype != np.uint8 or frame.ndim < 2:",
        "if True:",
        "training/test_dqn.py::test_act_gives_images_to_the_network_as_training_does",
    ),
    Mutation(
        "act takes numbers in bytes for an image",
        "training/acting.py",
        "if frame.dtype != np.uint8 or frame.ndim < 2:",
        "if frame.dtype != np.uint8:",
        "training/test_dqn.py::test_act_gives_images_to_the_network_as_training_does",
    ),
    Mutation(
        "a test that was interrupted leaves its episodes to the next",
        "training/evaluated.py",
        '        """Likewise."""\n        self._evaluated.clear()\n',
        '        """Likewise."""\n',
        "training/test_dqn.py::test_an_interrupted_evaluation_leaves_nothing_to_the_next",
    ),
    Mutation(
        "the actor-critic's state values are added up",
        "learning/objectives/prediction.py",
        '"state_value": v_tm1.detach().mean(),\n            "td_error": advantage',
        '"state_value": v_tm1.detach().sum(),\n            "td_error": advantage',
        "learning/test_objectives.py::test_actor_critic_adds_policy_gradient_td_learning_and_entropy",
    ),
    Mutation(
        "one generator of exploration for all envs",
        "playing/collector.py",
        GENERATORS,
        "[exploration_generator(seed, first_env)] * envs.num_envs",
        OWN_GENERATOR,
    ),
    Mutation(
        "all envs explore alike",
        "playing/seeds.py",
        "(run_seed, env, 0, EXPLORATION_STREAM)",
        "(run_seed, 0, 0, EXPLORATION_STREAM)",
        OWN_GENERATOR,
    ),
    Mutation(
        "a replay keeps the numbers of starts that it had before it took over another state",
        "replay/buffer.py",
        "        # Rows that are not stored were never written there.\n        self._start_number.fill(-1)\n",
        "",
        "saving/test_segments.py::test_what_a_replay_held_before_it_took_over_another_state_is_forgotten",
    ),
    Mutation(
        "a replay is filled again in every epoch", "training/dataset.py", "self.refill = False", "pass", FILLED_ONCE
    ),
    Mutation(
        "a replay is filled again in every fit",
        "training/data.py",
        "refill, self._refill = self._refill, False",
        "refill = self._refill",
        FILLED_ONCE,
    ),
    Mutation(
        "the last episode is one frame short where the ring has no room for more",
        "replay/buffer.py",
        "head - self._rows + 1)",
        "head - self._rows + 2)",
        "replay/test_replay_buffer.py::test_of_an_episode_longer_than_the_ring_the_end_is_left",
    ),
    Mutation(
        "another τ of Munchausen's rule",
        "learning/objectives/munchausen.py",
        "    temperature: float = 0.03\n",
        "    temperature: float = 0.3\n",
        "learning/test_objectives.py::test_munchausen_has_the_constants_of_the_paper_by_default",
    ),
    Mutation(
        "another τ of the softmax",
        "playing/policies.py",
        "temperature: Schedule | float = 1.0",
        "temperature: Schedule | float = 2.0",
        "playing/test_policies.py::test_softmax_takes_preferences_as_they_are_unless_it_is_told_otherwise",
    ),
    Mutation(
        "a schedule over one env step is refused",
        "schedules.py",
        "if env_steps < 1:",
        "if env_steps < 2:",
        "project/test_schedules.py::test_a_schedule_over_one_step_is_at_its_end_after_it",
    ),
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.mistake)
def test_each_mistake_can_still_be_made(mutation):
    text = (ROOT / "src/lit_dqn" / mutation.file).read_text()
    assert text.count(mutation.right) == 1, "the code has changed: make the mistake there, or leave it out of the table"
    file, _, name = mutation.test.partition("::")
    assert f"def {name}(" in (ROOT / "tests" / file).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.mistake)
def test_each_mistake_is_noticed(mutation, tmp_path):
    shutil.copytree(ROOT / "src", tmp_path / "src")
    file = tmp_path / "src/lit_dqn" / mutation.file
    text = file.read_text()
    file.write_text(text.replace(mutation.right, mutation.wrong))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", str(ROOT / "tests" / mutation.test)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "src")},
        cwd=ROOT,
    )
    assert done.returncode == 1, done.stdout + done.stderr  # 1: tests failed; 0: none did
