"""What a dataset or a store holds, and what is wrong with it: measured, checked, put on one HTML page."""
