"""Methods that need whole matrices: singular values, inverses.

They take what is a matrix to be one layer, and the mean for everything else, as their sources do. Unlike the methods
that go element by element, they rest on LAPACK (or on a GPU's library): the same contributions give the same bytes on
the same machine with the same libraries and number of threads, and differ by rounding (1e-13 or so of the largest
entry) elsewhere. What a formula leaves to rounding altogether, such as the singular vectors of a singular value 0, is
left out (`svd.py`), so that nothing arbitrary is fused.
"""
