"""Federations whose model is a module on a frozen body: `coldfuse init --share`.

kinds     what may be shared, by name, and how each is fused
making    from a body and a line to the folder of release 0; the body's weights are not read
body      whose body it is: found, and verified by its digest
way       how a node trains it; `adapters.loading` puts a release's module into a body and reads it from there
"""
