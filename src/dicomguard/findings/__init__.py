"""The catalogue of findings: what each id means, what it is mistaken for, and what to do next."""
