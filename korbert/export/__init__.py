"""What goes beside exported weights; see `korbert.tasks.exporting`."""
