"""Thresholds, rates and prices in one table, and the times that follow from the rates; pure."""
