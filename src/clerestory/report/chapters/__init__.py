"""The chapters of a report: each asks one question and answers it from the evidence."""
