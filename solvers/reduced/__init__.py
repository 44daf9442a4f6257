"""Reduced bases: linear problems in the span of their own solutions."""
