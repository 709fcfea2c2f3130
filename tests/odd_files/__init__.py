"""Odd data files of many kinds, each with what is right for it: what is read from it, or why it is refused.

They are written by the tests that use them, tiny and always alike. `CASES` has them all by their names.
"""

from odd_files import arrow, classes, json_files, kinds, letters, places, tables, tabs
from odd_files.case import Odd

CASES: dict[str, Odd] = {
    f"{module.__name__.rpartition('.')[2]}: {odd.name}": odd
    for module in (tables, tabs, classes, json_files, arrow, letters, kinds, places)
    for odd in module.CASES
}
