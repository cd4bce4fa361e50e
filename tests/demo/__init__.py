"""The demo: its story on mock time, its screens, its exit codes."""
