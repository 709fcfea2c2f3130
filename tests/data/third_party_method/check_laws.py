"""What a package's own tests look like: coldfuse's laws, on its method. (There it would be called test_laws.py.)"""

from functools import partial

import pytest
from coldfuse_midrange import Midrange

from coldfuse.testing.laws import AVERAGE_LAWS, LAWS, SYMMETRY_LAWS

EVERY_LAW = LAWS | AVERAGE_LAWS | SYMMETRY_LAWS


@pytest.mark.parametrize("law", EVERY_LAW.values(), ids=EVERY_LAW)
@pytest.mark.parametrize("make", [Midrange, partial(Midrange, upper=1.0)], ids=["half", "whole"])
def test_law(law, make):
    law(make)
