"""The checks that anyone can run longer (`tests/checks`), in their short form: a few trials of each."""

import hostile
import kills
import overload
import pytest
from check_frame import run


@pytest.mark.parametrize(
    ("check", "trials", "seed"),
    # the stages after features, of which tests/unit has a kill; every kind of file
    [(kills.check, 3, 3), (hostile.check, len(hostile.KINDS), 0), (overload.check, 2, 0)],
    ids=["kills", "hostile", "overload"],
)
def test_nothing_is_wrong_in_a_few_trials(check, trials, seed, tmp_path):
    outcomes, wrong = run(check, tmp_path, trials, seed)
    assert wrong == {}
    assert outcomes.total() == trials
