"""The API between services, and between Headrace and the world: contracts, events, topics.

`stream` is a stream's contract as structs (`coherence` says which make sense) and `odcs` the document it is kept in;
`infer` proposes one for a CSV file, `compatibility` says what a new version would break. `cleanse` holds what producers
send to a contract, before it enters a log. `events` are the records on the `topics`, `codec` their bytes. All of it is
pure: no clock, no files, no Kafka.
"""
