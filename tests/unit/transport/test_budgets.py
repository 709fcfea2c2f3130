"""How often somebody may ask for what costs more than it costs them."""

from coldfuse.transport.budgets import Budgets

LIMITS = {"each_per_s": 1.0, "each_burst": 3.0, "all_per_s": 5.0, "all_burst": 10.0}


def test_each_caller_has_a_budget_and_all_have_one_together():
    budgets = Budgets(**LIMITS)
    assert [budgets.take("a", now_s=0.0) for _ in range(4)] == [True, True, True, False]
    taken = [budgets.take(f"c{number}", now_s=0.0) for number in range(20)]
    assert sum(taken) == 7
    assert sum(budgets.take(f"d{number}", now_s=1.0) for number in range(20)) == 5
    assert sum(budgets.take("a", now_s=100.0) for _ in range(20)) == 3


def test_what_was_given_back_was_not_taken():
    budgets = Budgets(**LIMITS)
    for _ in range(100):
        assert budgets.take("a", now_s=0.0)
        budgets.give_back("a")


def test_a_million_callers_have_no_more_than_one_budget_and_no_memory():
    budgets = Budgets(**LIMITS)
    assert sum(budgets.take(str(number), now_s=0.0) for number in range(5000)) == 10
    assert len(budgets._budgets) == 1024
