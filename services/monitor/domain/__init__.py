"""The monitor's pure part: tallies, window tables, rules. Imports no Kafka, web, metrics, clock or files."""
