"""The checks that anyone can run longer (`tests/checks`), in their short form: a few trials of each."""

import hostile
import kills
import overload
import pytest
from check_frame import run


@pytest.mark.parametrize(
    ("check", "trials"),
    [(kills.check, len(kills.STAGES)), (hostile.check, len(hostile.KINDS)), (overload.check, 2)],
    ids=["kills", "hostile", "overload"],
)
def test_nothing_is_wrong_in_a_few_trials(check, trials, tmp_path):
    outcomes, wrong = run(check, tmp_path, trials)
    assert wrong == {}
    assert outcomes.total() == trials
