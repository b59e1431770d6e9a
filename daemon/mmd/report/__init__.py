"""The owner's report: what was learned, whether it helped, and what held it up, as one HTML file."""
