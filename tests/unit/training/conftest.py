"""Fixtures of the hand-made models."""

from tiny_rounds import small_parts

__all__ = ["small_parts"]
