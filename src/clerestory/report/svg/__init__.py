"""Drawing: plain data in, inline SVG out."""
