"""The card: a page for people that shows what is in a data set, and the statistics it is drawn from."""
