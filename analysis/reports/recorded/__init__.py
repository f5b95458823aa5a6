"""What is kept of a suite in the repository: its record, the figure of all records, and why verdicts differ.

Read `record`, which writes all of it, then `figure` and `explained`.
"""
