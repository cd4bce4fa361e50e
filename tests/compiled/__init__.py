"""What holds of a compiled build only."""
