"""The loop over epochs, exact under resume."""
