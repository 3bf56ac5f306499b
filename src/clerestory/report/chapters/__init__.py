"""The chapters of a report: each is a function from what is known to one chapter, or None where it does not apply."""
