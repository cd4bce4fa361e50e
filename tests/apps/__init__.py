"""The example applications, and the pages of the documentation, as a person meets them."""
