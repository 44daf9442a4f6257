"""Physics and boundary-value problems as data: named fields, coefficients, functionals, and their values at points."""
