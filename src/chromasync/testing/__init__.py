"""Helpers for tests against real servers, shipped so that users can test their set-ups too."""
