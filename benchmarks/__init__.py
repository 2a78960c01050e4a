"""What is measured, against whom: each script prints one table."""
