"""PEFT adapters in and out: what an adapter folder changes (`adapter`), and making one of a delta (`recompress`)."""
