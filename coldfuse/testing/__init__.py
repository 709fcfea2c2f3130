"""The laws that every fusion method must keep, as functions for the tests of third-party methods."""
