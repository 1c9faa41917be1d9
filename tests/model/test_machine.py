"""Hypothesis finds no history that violates an invariant, and shows the shortest one that does."""

import pytest
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import Machine, settings_for

HISTORIES = 100


@pytest.mark.timeout(600)
def test_no_step_violates_an_invariant() -> None:
    """Whatever happens in whichever order, what must hold after every step and at rest does."""
    run_state_machine_as_test(Machine, settings=settings_for(HISTORIES))
