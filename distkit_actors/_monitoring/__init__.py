"""What counters show to those who monitor a service."""
