"""Private data to examples: tables of texts and labels, as people have them.

In the order of the data: `sources` (files, folders, pipes; `folders` chooses among files), `kinds` (what a file is),
`lines` (its letters), then `delimited` with `quotes`, `json_rows` or `arrow_tables` make it a `Table`; `columns` finds
texts and labels in it, `collecting` takes them from row to row, `labels` makes classes of them. `reading` is all of
this in one call, and gives a `TextDataset` with its `DataReport`.

Text files are read by the csv and json modules of Python, line by line, and not by pyarrow: a refusal names its line,
a stray quote is found before it glues rows, and a file of any size takes the memory of the columns that are read.
"""
