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
                    self.collect(self.agent, self.env_steps_per_chunk)
                yield self._draw(collector.env_step)
"""
DRAWN_EARLY = """\
                chunk = self._draw(collector.env_step + self.env_steps_per_chunk)
                self.collect(self.agent, self.env_steps_per_chunk)
                yield chunk
"""
CHUNK = "training/test_data.py::test_a_chunk_holds_the_batches_of_its_updates"
WHEN_DRAWN = (
    "training/test_data.py::test_the_batches_of_a_chunk_are_drawn_when_it_is_played_or_before_it_is_played_ahead"
)
FILLED_ONCE = "training/test_data.py::test_a_replay_that_was_not_saved_is_filled_again_once"
OWN_GENERATOR = "playing/test_collector.py::test_each_env_explores_with_its_own_generator"
GO_ON = "commands/test_resume.py::test_a_network_with_dropout_learns_on_as_if_it_had_never_stopped"
MASKS, MASKED_OBJECTIVES = "playing/test_masks.py", "learning/test_masked_objectives.py"
REMEMBERING, RECURRENT = "playing/test_remembering.py", "learning/test_recurrent.py"
AS_IF_HOPELESS = "test_forbidden_actions_that_look_good_are_learned_from_as_if_they_were_hopeless"
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
        '        """As `on_validation_epoch_start`."""\n        self._evaluated.clear()\n',
        '        """As `on_validation_epoch_start`."""\n',
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
        "playing/player.py",
        GENERATORS,
        "[exploration_generator(seed, first_env)] * envs.num_envs",
        OWN_GENERATOR,
    ),
    Mutation(
        "without strict the gradients are added in the fixed order all the same",
        "training/ranks.py",
        "ranks.add_up if data.strict else ranks.all_reduce",
        "ranks.add_up",
        "training/test_ranks.py::"
        "test_without_strict_an_update_is_one_all_reduce_and_the_run_is_the_strict_one_but_for_rounding",
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
        "        # Rows that are not stored were never written.\n        self._start_number.fill(-1)\n",
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
        "playing/test_policies.py::test_softmax_has_temperature_1_by_default",
    ),
    Mutation(
        "a schedule over one env step is refused",
        "schedules.py",
        "if env_steps < 1:",
        "if env_steps < 2:",
        "project/test_schedules.py::test_a_schedule_over_one_step_is_at_its_end_after_it",
    ),
    *(
        Mutation(mistake, file, right, wrong, f"{test_file}::{test}")
        for mistake, file, right, wrong, test_file, test in (
            (
                "of numbers the oldest of a stack are seen",
                "parts.py",
                "rows = rows[:, -1]",
                "rows = rows[:, 0]",
                "replay/test_parts_in_replay.py",
                "test_every_part_of_every_transition_is_of_its_moment",
            ),
            (
                "parts of four bytes begin anywhere",
                "parts.py",
                "-(-end // 4) * 4",
                "end",
                "envs/test_parts.py",
                "test_tensors_of_rows_are_the_arrays_of_rows_and_images_alone_are_stacked",
            ),
            (
                "NaN in a part is learned from",
                "envs/checks.py",
                "frames = parts.numbers(frames)",
                "return",
                "commands/test_parts_in_runs.py",
                "test_a_number_that_is_none_is_named_with_its_part",
            ),
            (
                "the next observation of a batch stays bytes",
                "training/acting.py",
                "self.by_parts(batch.next_observation)",
                "batch.next_observation",
                "commands/test_parts_in_runs.py",
                "test_every_agent_learns_from_them",
            ),
            (
                "the last layer of an encoder makes its features",
                "learning/networks/parts_network.py",
                "encoder[-1] = nn.Identity()",
                "pass",
                "learning/test_parts_network.py",
                "test_the_features_of_an_encoder_are_what_its_last_layer_would_take",
            ),
            (
                "Q-learning thinks of forbidden actions",
                "learning/losses.py",
                "masked(q_t_selector, batch.next_action_mask)",
                "q_t_selector",
                MASKED_OBJECTIVES,
                "test_the_target_is_the_best_of_the_allowed_actions",
            ),
            (
                "C51 thinks of forbidden actions",
                "learning/objectives/categorical.py",
                "masked(expectation(logits_t[-1].softmax(dim=2), support), batch.next_action_mask)",
                "expectation(logits_t[-1].softmax(dim=2), support)",
                MASKED_OBJECTIVES,
                AS_IF_HOPELESS,
            ),
            (
                "quantile regression thinks of forbidden actions",
                "learning/objectives/quantile.py",
                "masked(theta_t.mean(dim=2), batch.next_action_mask)",
                "theta_t.mean(dim=2)",
                MASKED_OBJECTIVES,
                AS_IF_HOPELESS,
            ),
            (
                "IQN thinks of forbidden actions",
                "learning/objectives/implicit.py",
                "best = masked(q_t, batch.next_action_mask)",
                "best = q_t",
                MASKED_OBJECTIVES,
                AS_IF_HOPELESS,
            ),
            (
                "M-IQN's bonus is of a policy that does what is forbidden",
                "learning/objectives/implicit.py",
                "masked(target(batch.observation), batch.action_mask)",
                "target(batch.observation)",
                MASKED_OBJECTIVES,
                AS_IF_HOPELESS,
            ),
            (
                "Munchausen's bonus is of a policy that does what is forbidden",
                "learning/objectives/munchausen.py",
                "masked(q_before, batch.action_mask)",
                "q_before",
                MASKED_OBJECTIVES,
                "test_munchausens_policy_is_the_softmax_over_the_allowed_actions",
            ),
            (
                "Munchausen's soft value counts what is forbidden",
                "learning/objectives/munchausen.py",
                "masked(q_t, batch.next_action_mask)",
                "q_t",
                MASKED_OBJECTIVES,
                "test_munchausens_policy_is_the_softmax_over_the_allowed_actions",
            ),
            (
                "the actor-critic's policy does what is forbidden",
                "learning/objectives/prediction.py",
                "masked(output[:, :-1] / temperature, batch.action_mask)",
                "output[:, :-1] / temperature",
                MASKED_OBJECTIVES,
                AS_IF_HOPELESS,
            ),
            (
                "a rollout's values are of forbidden actions, too",
                "replay/rollout.py",
                "self.state_values(observation, found.next_action_mask[part])",
                "self.state_values(observation)",
                MASKS,
                "test_the_values_of_a_rollout_are_those_of_allowed_actions",
            ),
            (
                "the first mask of an episode is not stored",
                "replay/masks.py",
                "self[place[first]] = timestep.action_mask[first]",
                "pass",
                MASKS,
                "test_each_transition_comes_with_the_masks_of_its_two_observations",
            ),
            (
                "the mask at the end of a window is that of its start",
                "replay/buffer.py",
                "self._action_mask[place]",
                "self._action_mask[first_place]",
                MASKS,
                "test_each_transition_comes_with_the_masks_of_its_two_observations",
            ),
            (
                "a new episode is begun by the mask of the old one",
                "playing/stage.py",
                'np.where(mask[:, None], info["action_mask"], self.action_mask)',
                "self.action_mask",
                MASKS,
                "test_no_forbidden_action_is_played",
            ),
            (
                "exploration knows no mask",
                "playing/policies.py",
                "if mask is None else _any_of(mask[env], generator)",
                "if True else 0",
                MASKS,
                "test_no_policy_chooses_what_is_forbidden_and_each_can_choose_all_else",
            ),
            (
                "a policy is shown what the agent prefers of forbidden actions",
                "playing/masks.py",
                "np.where(self.action_mask, self._agent.preferences(observation), np.float32(-np.inf))",
                "self._agent.preferences(observation)",
                MASKS,
                "test_no_policy_chooses_what_is_forbidden_and_each_can_choose_all_else",
            ),
            (
                "an idle env plays its action 0, allowed or not",
                "playing/resimulation.py",
                "np.where(allowed, chosen, stage.action_mask.argmax(axis=1))",
                "chosen",
                MASKS,
                "test_envs_that_are_played_again_are_where_they_were_and_idle_ones_play_what_is_allowed",
            ),
            (
                "masks are not saved",
                "saving/segments.py",
                "(name for name in OPTIONAL_ROW_ARRAYS if name in names)",
                "()",
                MASKS,
                "test_a_store_that_is_restored_from_memory_or_from_disk_has_its_masks_again",
            ),
            (
                "memory does not begin anew with an episode",
                "playing/stage.py",
                "np.where(mask[:, None], np.float32(0), self.memory)",
                "self.memory",
                REMEMBERING,
                "test_memory_goes_on_at_each_step_whatever_the_policy_asks",
            ),
            (
                "a timestep comes with what is remembered after it",
                "playing/stage.py",
                "memory, self.memory = self.memory, self._memory_after",
                "memory = self.memory = self._memory_after",
                REMEMBERING,
                "test_what_the_replay_keeps_is_what_the_network_had_when_it_acted",
            ),
            (
                "what was remembered is not taken up",
                "playing/player.py",
                "self.stage.remember(episodes)",
                "pass",
                REMEMBERING,
                "test_a_collector_that_is_restored_remembers_what_it_did",
            ),
            (
                "a sequence goes over the end of an episode",
                "replay/sequences.py",
                "of_episode & in_order & ",
                "in_order & ",
                "replay/test_sequences.py",
                "test_every_sequence_of_every_moment_is_what_was_played_and_remembered",
            ),
            (
                "a sequence goes on with what was written a round ago",
                "replay/sequences.py",
                "of_episode & in_order & ",
                "of_episode & ",
                "replay/test_sequences.py",
                "test_episodes_that_lie_where_those_of_the_round_before_lay_are_other_ones",
            ),
            (
                "a sequence whose beginning is gone is drawn",
                "replay/sequences.py",
                "range(min(starts.start + lost, starts.stop), starts.stop)",
                "starts",
                "replay/test_sequences.py",
                "test_every_sequence_of_every_moment_is_what_was_played_and_remembered",
            ),
            (
                "sequences begin without what was remembered",
                "replay/sequences.py",
                "self._memory[self._places(first, of_memory)[:, 0]]",
                "self._memory[self._places(first, of_memory)[:, 0]] * 0",
                "replay/test_sequences.py",
                "test_every_sequence_of_every_moment_is_what_was_played_and_remembered",
            ),
            (
                "what fills a sequence up is learned from",
                "replay/sequences.py",
                'own["weight"] / own["weight"].mean()',
                'np.ones_like(own["weight"])',
                RECURRENT,
                "test_the_loss_of_sequences_and_its_gradient_are_those_of_a_loop_over_their_steps",
            ),
            (
                "nothing is burned in",
                "learning/networks/recurrent.py",
                "torch.where(observation.burned_in.unsqueeze(1), burned, memory)",
                "memory",
                RECURRENT,
                "test_the_loss_asks_for_the_stored_state_and_for_the_burn_in_and_not_for_what_is_padded",
            ),
            (
                "the gradient goes through the burn-in",
                "learning/networks/recurrent.py",
                "with torch.no_grad():\n                _, burned",
                "with torch.enable_grad():\n                _, burned",
                RECURRENT,
                "test_the_loss_of_sequences_and_its_gradient_are_those_of_a_loop_over_their_steps",
            ),
            (
                "an export does not mask",
                "commands/export.py",
                "masked(outputs[:, :num_actions], mask)",
                "outputs[:, :num_actions]",
                "commands/test_action_masks.py",
                "test_the_state_values_of_an_actor_keep_their_place_behind_the_mask",
            ),
        )
    ),
    Mutation(
        "the values of the parts are added up and not averaged",
        "learning/action_values.py",
        "outputs.gather(1, columns).mean(dim=1)",
        "outputs.gather(1, columns).sum(dim=1)",
        "learning/test_action_values.py::test_the_value_of_an_action_is_the_mean_of_its_parts",
    ),
    Mutation(
        "the first part of an action counts fastest",
        "branches.py",
        "np.unravel_index(action, self.choices)",
        'np.unravel_index(action, self.choices, order="F")',
        "learning/test_action_values.py::test_columns_and_choices_of_numpy_and_torch_are_the_same",
    ),
    Mutation(
        "numbers of actions are cut to 32 bits",
        "playing/episodes.py",
        "np.zeros((num_envs, 1024), np.int64)",
        "np.zeros((num_envs, 1024), np.int32)",
        "training/test_branching.py::test_a_run_that_is_resumed_is_the_run_that_was_not",
    ),
    Mutation(
        "a continuous action never reaches its limits",
        "envs/actions.py",
        "np.linspace(low, high, bins) for",
        "np.linspace(low, high, bins + 2)[1:-1] for",
        "envs/test_actions.py::test_continuous_actions_take_evenly_spaced_values_with_their_limits",
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
        [sys.executable, "-m", "pytest", "-x", "-m", "", "-p", "no:cacheprovider", str(ROOT / "tests" / mutation.test)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "src")},
        cwd=ROOT,
    )
    assert done.returncode == 1, done.stdout + done.stderr  # 1: tests failed; 0: none did
