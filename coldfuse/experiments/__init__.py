"""The demonstration, and benchmarks of this machine: a federation's real processes, run and measured."""
