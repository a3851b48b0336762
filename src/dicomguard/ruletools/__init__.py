"""For people who write rules: lint, test, measure and begin them."""
