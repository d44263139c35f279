import os
import subprocess
import sys
from pathlib import Path

import pytest

from lit_dqn.learning.freed_memory import CHOSEN

FAULTS = """
import resource
import sys
import numpy as np
from lit_dqn.learning.freed_memory import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def take_and_give_back():
    arrays = [np.ones(2**20) for _ in range(8)]  # 8 MB each

if sys.argv[1] == "keep":
    keep_freed_memory()
take_and_give_back()
before = faults()
for _ in range(5):
    take_and_give_back()
print(faults() - before)
"""


def page_faults(mode: str, **variables: str) -> int:
    clean = {name: value for name, value in os.environ.items() if name not in CHOSEN}
    env = clean | variables | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    return int(subprocess.run([sys.executable, "-c", FAULTS, mode], env=env, capture_output=True, check=True).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc is told")
def test_memory_that_is_given_back_costs_no_page_faults_the_next_time():
    assert page_faults("keep") < 0.1 * page_faults("leave")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc is told")
def test_the_word_of_the_user_stands():
    assert page_faults("keep", MALLOC_TRIM_THRESHOLD_="0") > 10_000
