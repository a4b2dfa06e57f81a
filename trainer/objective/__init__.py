"""What training minimizes, and how: losses, optimizers, schedules and averages of the weights."""
