"""A release on disk: downloaded part by part, verified, and put in place only when it is whole.

download    bringing what is missing, and putting it in place
changes     what is no step forward: an older release, or another federation's
taken_back  whether a release was rolled back or retracted since
signatures  what is signed of a release, beside its files
card        the model card beside its files, which follows from its manifest
place       where one part comes to lie
folder      whose a folder is, and whether what lies in it is still what was written
"""

from coldfuse.consumer.download import Fetched, ReleaseSource, fetch
from coldfuse.consumer.folder import claim, hold, is_file_of, is_whole, read_fetched

__all__ = ["Fetched", "ReleaseSource", "claim", "fetch", "hold", "is_file_of", "is_whole", "read_fetched"]
