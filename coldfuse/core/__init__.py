"""What things are: schemas, blobs, contributions, rounds and releases, as values and pure functions.

Nothing here touches a file, a network, a clock or the environment: times and seeds are arguments. Values that travel as
JSON are frozen pydantic models (`value.Value`), so that what comes from outside is validated where it enters and
trusted from then on.
"""
