import os
import subprocess
import sys
from pathlib import Path

import pytest

PROOF = Path(__file__).parents[1] / "prove_scale.py"


@pytest.mark.slow
def test_a_run_is_the_same_bytes_with_other_processes_whichever_is_stopped_or_killed():
    """`make prove-scale` does it for every pair, on three envs, and by SLURM and Lightning, too."""
    proof = subprocess.run(
        [sys.executable, PROOF, "--short"], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert proof.returncode == 0, proof.stdout + proof.stderr
    rows = [line.split("|")[1:-1] for line in proof.stdout.splitlines() if line.startswith("| cartpole")]
    assert [int(row[-1]) > 0 for row in rows] == [False, False, True]
