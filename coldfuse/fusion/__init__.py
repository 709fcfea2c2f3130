"""The maths of fusing, one method a file, over blocks of elements; no file, no clock, no global random state.

A recipe (`recipe`) is transforms, a combiner and outer steps; `methods` is the table of all of them, `method` says what
a method is, and `block` what it is given. `in_memory` applies a recipe to arrays, in the fewest lines: what the
streaming engine must give too, and what the laws of every method (`coldfuse.testing`) are stated on.

Sums are made in float64 and in the order of the contributions' digests, by loops that numba compiles, or by numpy where
loading numba takes longer (`compiling`): what stays in the cache runs at memory speed, and every machine gets the same
bits. Methods of whole matrices are written for the array API, so that they run where the matrices lie.
"""
