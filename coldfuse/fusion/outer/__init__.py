"""Outer steps: how the base moves along the fused delta, with a memory of earlier rounds."""
