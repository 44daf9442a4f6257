"""Training: the loop, data sets, losses, errors on held-out designs."""
