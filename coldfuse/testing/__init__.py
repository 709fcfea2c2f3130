"""What every fusion method must keep, for the tests of packages that bring one.

    from coldfuse.testing import check_method

    def test_my_method_keeps_the_laws():
        check_method(MyMethod, averages=True)

`laws` has each law by name, to try one alone.
"""

from coldfuse.testing.laws import AVERAGE_LAWS, LAWS, SYMMETRY_LAWS, Law, LawBrokenError, Maker, check_method

__all__ = ["AVERAGE_LAWS", "LAWS", "SYMMETRY_LAWS", "Law", "LawBrokenError", "Maker", "check_method"]
