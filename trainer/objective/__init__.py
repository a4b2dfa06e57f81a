"""What training minimizes, and how: losses, optimizers, schedules, averages of the weights."""
