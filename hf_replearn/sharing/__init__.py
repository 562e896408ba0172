"""What leaves the house: the encoder in its native format, the report, the card, the push to the Hub."""
