"""From design parameters to domains: shape map, measures and margins, point clouds."""
