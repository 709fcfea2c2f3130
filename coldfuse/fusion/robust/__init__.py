"""Methods that a minority of broken or hostile contributions cannot bend."""
