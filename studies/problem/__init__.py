"""From a checked study to what the stages work with: problems, conditions, models, samples."""
