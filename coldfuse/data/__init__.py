"""Private data of any kind to examples, as people have them.

In the order of the data: `addresses` (what is no file: a database, the Hub) and `sources` (files, folders, pipes,
patterns; `folders` and `media` choose among files) are what a user names; `kinds` says what a file is, `lines` reads
its letters. `delimited` with `quotes`, `json_rows`, `arrow_tables`, `documents`, `conll`, `media`, `database` and `hub`
each make a `Table`; `nested` finds columns inside of others. `opening` is all of this in one call: the one way in which
everything is read.

`records` takes from tables what a task wants of each row, by `roles`; `letters` replaces what is no text. The
classification of texts, which is pickier, has its own choice of `columns`, `collecting` and `labels`: `reading` gives a
`TextDataset`. What was read, left out or replaced stands in a `report`. Nothing of a row is ever in a message: a first
line that looks like an example, in a file that lacks its header, is not said either.

Text files are read by the csv and json modules of Python, line by line, and not by pyarrow: a refusal names its line,
a stray quote is found before it glues rows, and a file of any size takes the memory of the columns that are read.
"""
