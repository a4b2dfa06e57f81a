"""`index.html` of a report: everything that is in it, for people."""
