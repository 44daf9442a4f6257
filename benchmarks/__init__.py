"""Scripts that measure; only they and their tests import from here."""
