"""A round: list, screen, decide, fuse part by part, publish.

- `service`: take the lease, then lead round after round until stopped;
- `round`: one round, in one function that does the next thing the journal asks for; killed anywhere, it goes on there;
- `screen`: whether one contribution may be fused, and why not;
- `model`: the latest release as the base of the round;
- `release`: what was admitted, fused by `coldfuse.engine`, and the manifest of the next release;
- `gate`: what becomes of a candidate, by the operator's suites (`examining`) and by evaluators (`asking`); where it
  fails, who harms (`blaming`);
- `signing`: the release's signatures, before anybody is pointed to it; `resigning`: those of a key that was replaced.

The aggregator and the gateway never meet: they share what lies in the store alone.
"""
