"""Constrained optimization: SLSQP from many starts, the trust region, conditions of optimality."""
