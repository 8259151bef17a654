"""What goes out: lines become text, blocks become boxes drawn on the page. Pure functions."""
