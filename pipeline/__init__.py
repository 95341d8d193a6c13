"""The stages: each reads files, calls `features` and `models`, and writes files."""
