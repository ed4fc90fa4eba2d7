"""Pure stateful operators, one a file: no clock, no threads, no Kafka; the same input gives the same output."""
