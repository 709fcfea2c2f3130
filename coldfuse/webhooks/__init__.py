"""Telling others what happens to a federation: CloudEvents, signed as Standard Webhooks asks, at least once each.

What is to be told follows from the journals and the channel, and what was told is marked in the store; so nothing is
lost with a process. Each address has a thread of its own, and none of them ever holds a round up.
"""

from coldfuse.webhooks.outbox import Outbox, Outgoing, open_outbox
from coldfuse.webhooks.signing import Secrets, read_secrets

__all__ = ["Outbox", "Outgoing", "Secrets", "open_outbox", "read_secrets"]
