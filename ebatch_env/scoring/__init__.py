"""Scoring: policies by name, the runner, statistics, tuning, tables and pictures."""
