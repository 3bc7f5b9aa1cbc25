"""What happens besides the step: one hook a file."""
