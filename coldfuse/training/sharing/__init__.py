"""Federations whose model is a module on a frozen body: `coldfuse init --share`.

kinds     what may be shared, by name, and how each is fused
making    from a body and a line to the folder of release 0; the body's weights are not read
loading   a release's module put into a body, and its tensors read from a model that was trained
body      whose body it is: found, and verified by its digest
"""
