"""What masks hold, counted exactly; which label tables fit it, a draft of a table, and what is wrong with a table."""
