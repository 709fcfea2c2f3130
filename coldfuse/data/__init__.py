"""Private data to examples: tables of texts and labels, as people have them."""
