"""What a package's own tests look like: coldfuse's laws, on its method. (There it would be called test_laws.py.)"""

from functools import partial

from coldfuse_midrange import Midrange

from coldfuse.testing import check_method


def test_the_mid_range_keeps_the_laws():
    check_method(Midrange, averages=True)


def test_the_maximum_keeps_the_laws():
    check_method(partial(Midrange, upper=1.0), averages=True)
