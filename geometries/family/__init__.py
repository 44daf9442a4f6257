"""Geometry families: parameters, B-spline boundaries, and their checks."""
