"""Documents in the formats of others, each made from the same record: CycloneDX, Croissant, a data sheet."""
