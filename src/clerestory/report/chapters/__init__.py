"""The chapters of a report: each is a function from ``ReportData`` to one chapter, or None where it does not apply."""
