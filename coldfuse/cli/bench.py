"""Benchmarks of this machine."""

import typer

app = typer.Typer(help="Measure this machine against the bound, side by side.", no_args_is_help=True)
