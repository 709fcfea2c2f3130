"""The maths of fusing, one method a file, over blocks of elements; numpy in, numpy out, no file and no clock.

A method gets the deltas of one block of elements one after the other, in the order of their digests, and sums them in
float64: the result depends neither on arrival nor on how the model was cut, and memory does not grow with the number of
contributions. Numpy rather than torch, because ufuncs over cache-sized blocks run at memory speed and start in 0.1 s.
"""
