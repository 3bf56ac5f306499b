"""Other people's models behind our protocols: chosen by what they can do, never by their name."""
