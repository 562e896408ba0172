"""The one room that knows what other people's models look like inside: everybody else asks here."""
