"""A local AWS on loopback: the demo and the deploy tests deploy into it. Nothing of the product imports it."""
