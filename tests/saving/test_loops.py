import logging

import pytest

from helpers import fit, read_checkpoint
from lit_dqn.callbacks import StoppingRules
from lit_dqn.saving.contents import Contents
from lit_dqn.saving.loops import restore_process_state


@pytest.mark.parametrize(
    ("then", "now", "told"),
    [("cpu", "cpu", False), ("cpu", "cuda", True), ("cuda", "cpu", True), (None, "cuda", False)],
)
def test_a_resume_on_another_kind_of_device_is_logged(tmp_path, caplog, then, now, told):
    caplog.set_level(logging.INFO, "lit_dqn")
    trainer, _ = fit(tmp_path, StoppingRules(), max_epochs=1)
    trainer.save_checkpoint(tmp_path / "it.ckpt")
    contents = Contents(read_checkpoint(tmp_path / "it.ckpt"))
    assert contents.device == "cpu"
    contents.contents["device"] = then
    restore_process_state(contents, now)
    assert (f"the run is on {now} now; it was on {then} in the checkpoint" in caplog.text) == told
