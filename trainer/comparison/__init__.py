"""Whether one model is better than another: paired statistics over images and over runs, and a page about them."""
