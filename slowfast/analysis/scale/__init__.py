"""What a training needs at scale: sums from measured constants, and a simulation of its steps."""
