"""What a dataset or a store holds, what is wrong with it and what a recipe makes of it: measured, checked, put on one
HTML page."""
